create table players (
    id    bigint primary key,
    game  text   not null,
    name  text   not null,
    score bigint not null
);
