"""The ledger behind the traffic generator, without a database: keys come from a counter."""

from __future__ import annotations

from collections import Counter
from itertools import count
from random import Random

import pytest

from tailrace.demo import ledger, seed, traffic
from tailrace.demo.ledger import Ledger, Roster, Transaction


def bank(number: int = 7, customers: int = 50) -> Ledger:
    keys = {table: count(100_000) for table in ("customers", "accounts", "transfers")}
    made = Ledger(Random(number), lambda table: next(keys[table]))
    people, accounts = seed.rows(number, customers)
    made.load([row[0] for row in people], [(key, owner, int(money * 100)) for key, owner, _, money in accounts])
    return made


def play(made: Ledger, turns: int) -> list[Transaction]:
    played = []
    for _ in range(turns):
        transaction = made.choose()
        if not transaction.undone:
            made.apply(transaction)
        played.append(transaction)
    return played


def test_money_only_moves_whatever_happens() -> None:
    made = bank()
    before = made.total
    play(made, 5_000)
    assert made.total == before


def test_no_account_is_ever_overdrawn_not_even_inside_a_burst() -> None:
    made = bank()
    for transaction in play(made, 3_000):
        assert all(step.values.get("amount", 1) > 0 for step in transaction.steps)
    burst = made._burst()
    for step in burst:
        made._apply(step.name, step.values)
        assert all(account.cents >= 0 for account in made.accounts.values())
    assert len(burst) >= ledger.BURST


def test_the_same_seed_makes_the_same_choices() -> None:
    assert play(bank(3), 500) == play(bank(3), 500)
    assert play(bank(3), 500) != play(bank(4), 500)


def test_every_kind_of_change_happens_and_some_are_rolled_back() -> None:
    played = play(bank(), 4_000)
    kinds = Counter(transaction.kind for transaction in played)
    assert set(kinds) == {name for name, _, _ in bank()._kinds()}
    assert 0.02 < sum(transaction.undone for transaction in played) / len(played) < 0.06


def test_every_account_belongs_to_a_customer_who_knows_it() -> None:
    made = bank()
    play(made, 3_000)
    listed = {key: owner for owner, keys in made.customers.items() for key in keys}
    assert listed == {key: account.customer for key, account in made.accounts.items()}


def test_an_account_is_empty_when_it_is_closed_and_a_customer_has_none_when_deleted() -> None:
    made = bank()
    closed = 0
    for transaction in (made.choose() for _ in range(3_000)):
        for step in transaction.steps:
            if step.name == ledger.DROP_ACCOUNT:
                assert made.accounts[step.values["id"]].cents == 0
                closed += 1
            elif step.name == ledger.DROP_CUSTOMER:
                assert made.customers[step.values["id"]] == []
            made._apply(step.name, step.values)
    assert closed > 50


def test_a_few_customers_always_stay() -> None:
    made = bank(customers=ledger.SMALLEST)
    play(made, 2_000)
    assert len(made.customers) >= ledger.SMALLEST


def test_the_ledger_knows_no_statement_that_the_generator_cannot_run() -> None:
    names = {step.name for transaction in play(bank(), 4_000) for step in transaction.steps}
    assert names == set(traffic.STATEMENTS)


def test_a_roster_draws_only_what_is_in_it() -> None:
    roster = Roster()
    for key in range(20):
        roster.add(key)
    for key in range(0, 20, 2):
        roster.remove(key)
    assert {roster.draw(Random(turn)) for turn in range(200)} == set(range(1, 20, 2))
    assert len(roster) == 10


def test_seed_rows_repeat_and_give_everybody_two_accounts() -> None:
    people, accounts = seed.rows(1, 300)
    assert seed.rows(1, 300) == (people, accounts)
    assert Counter(row[1] for row in accounts) == dict.fromkeys(range(1, 301), 2)
    assert any(row[5] is None for row in people)


@pytest.mark.parametrize(("cents", "written"), [(0, "0.00"), (1, "0.01"), (123_456, "1234.56")])
def test_cents_become_two_decimals(cents: int, written: str) -> None:
    assert str(ledger.amount(cents)) == written
