-- The data set declares no keys at all. These were found by counting: each is unique over every row.
--   flights  (carrier, flight, time_hour): year, month, day, carrier and flight repeat 24 times, because one number may
--            fly twice a day; the scheduled hour tells the two apart.
--   weather  (origin, time_hour): the local year, month, day and hour repeat three times, in the night when summer ends.
-- flights.tailnum is null for cancelled flights and names planes that `planes` does not know, flights.dest names
-- airports that `airports` does not know, so there are no foreign keys.
create table airlines (
    carrier text primary key,
    name    text not null
);

create table airports (
    faa   text primary key,
    name  text             not null,
    lat   double precision not null,
    lon   double precision not null,
    alt   integer          not null,
    tz    smallint         not null,
    dst   text             not null,
    tzone text
);

create table planes (
    tailnum      text primary key,
    year         smallint,
    type         text     not null,
    manufacturer text     not null,
    model        text     not null,
    engines      smallint not null,
    seats        smallint not null,
    speed        smallint,
    engine       text     not null
);

create table weather (
    origin     text        not null,
    year       smallint    not null,
    month      smallint    not null,
    day        smallint    not null,
    hour       smallint    not null,
    temp       numeric(6, 2),
    dewp       numeric(6, 2),
    humid      numeric(6, 2),
    wind_dir   smallint,
    wind_speed double precision,
    wind_gust  double precision,
    precip     numeric(5, 2),
    pressure   numeric(6, 1),
    visib      numeric(5, 2),
    time_hour  timestamptz not null,
    primary key (origin, time_hour)
);

-- dep_time and the like are local clock times written as hhmm, 2400 included, and stay numbers as in the data set.
create table flights (
    year           smallint    not null,
    month          smallint    not null,
    day            smallint    not null,
    dep_time       smallint,
    sched_dep_time smallint    not null,
    dep_delay      smallint,
    arr_time       smallint,
    sched_arr_time smallint    not null,
    arr_delay      smallint,
    carrier        text        not null,
    flight         integer     not null,
    tailnum        text,
    origin         text        not null,
    dest           text        not null,
    air_time       smallint,
    distance       integer     not null,
    hour           smallint    not null,
    minute         smallint    not null,
    time_hour      timestamptz not null,
    primary key (carrier, flight, time_hour)
);
