"""What the bank's traffic does next: a small model of who has which accounts with how much money.

Pure: it draws from one random source and returns transactions as lists of steps; the traffic generator runs them and
applies those that were committed. Money only ever moves, so the sum of all balances never changes. Amounts are
in cents. New keys come from ``ids``, which asks the database's sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tailrace.demo import people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

SMALLEST = 3  # customers that are always left, so that there is somebody to act
BURST = 40  # transfers in one large transaction

# Names of steps; the SQL of each is in tailrace.demo.traffic.
ADD_CUSTOMER, EDIT_CUSTOMER, REKEY_CUSTOMER, DROP_CUSTOMER = "add customer", "edit", "rekey customer", "drop customer"
ADD_ACCOUNT, EDIT_ACCOUNT, REKEY_ACCOUNT, DROP_ACCOUNT = "add account", "status", "rekey account", "drop account"
DEBIT, CREDIT, BOOK = "debit", "credit", "book"


@dataclass(frozen=True, slots=True)
class Step:
    """One statement that changes exactly one row (and what the database cascades from it)."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Transaction:
    """Steps that happen together, or not at all where ``undone``."""

    kind: str
    steps: tuple[Step, ...]
    undone: bool = False


class Roster:
    """Keys in an order that depends only on what was added and removed, with a fair draw in constant time."""

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int) -> None:
        """Add one key."""
        self._place[key] = len(self._keys)
        self._keys.append(key)

    def remove(self, key: int) -> None:
        """Remove one key; the last one takes its place."""
        place, last = self._place.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._place[last] = place

    def draw(self, rng: Random) -> int:
        """Return any key."""
        return self._keys[rng.randrange(len(self._keys))]


@dataclass
class Account:
    """Whose it is and what is on it, in cents."""

    customer: int
    cents: int


@dataclass
class Ledger:
    """All customers and accounts, as the last committed transaction left them."""

    rng: Random
    ids: Callable[[str], int]
    keys_change: bool = True
    accounts: dict[int, Account] = field(default_factory=dict)
    customers: dict[int, list[int]] = field(default_factory=dict)
    _account_keys: Roster = field(default_factory=Roster)
    _customer_keys: Roster = field(default_factory=Roster)

    @property
    def total(self) -> int:
        """The sum of all balances, in cents, which no transaction changes."""
        return sum(account.cents for account in self.accounts.values())

    def load(self, customers: Iterable[int], accounts: Iterable[tuple[int, int, int]]) -> None:
        """Take over what the database holds: customer keys, and accounts as (key, customer, cents)."""
        for customer in customers:
            self._enter(customer)
        for key, customer, cents in accounts:
            self._open(key, customer, cents)

    def choose(self) -> Transaction:
        """Return the next transaction; it is not applied yet."""
        kinds = self._kinds()
        kind = self.rng.choices([name for name, _, _ in kinds], weights=[weight for _, weight, _ in kinds])[0]
        make = next(make for name, _, make in kinds if name == kind)
        return Transaction(kind, tuple(make()), undone=self.rng.random() < 0.04)

    def apply(self, transaction: Transaction) -> None:
        """Take note of a committed transaction."""
        for step in transaction.steps:
            self._apply(step.name, step.values)

    def _kinds(self) -> tuple[tuple[str, float, Callable[[], list[Step]]], ...]:
        removable = len(self.customers) > SMALLEST
        return (
            ("transfer", 55, self._transfer),
            ("edit customer", 22, self._edit),
            ("flip preferred", 6, self._flip),
            ("open account", 5, self._open_account),
            ("new customer", 4, self._new_customer),
            ("freeze account", 3, self._freeze),
            ("delete customer", 2 if removable else 0, self._delete_customer),
            ("change customer key", int(self.keys_change), self._rekey_customer),
            ("change account key", int(self.keys_change), self._rekey_account),
            ("burst", 0.3, self._burst),
        )

    def _transfer(self, share: int = 2) -> list[Step]:
        """Move at most a ``share``-th of what one account has to another one."""
        source, target = self._account_keys.draw(self.rng), self._account_keys.draw(self.rng)
        most = self.accounts[source].cents // share
        if source == target or most < 1:
            return [self._edit_step()]
        return self._move(source, target, self.rng.randint(1, most))

    def _move(self, source: int, target: int, cents: int) -> list[Step]:
        money = amount(cents)
        booked = {"source": source, "target": target, "amount": money, "note": people.note(self.rng)}
        return [
            Step(DEBIT, {"id": source, "amount": money}),
            Step(CREDIT, {"id": target, "amount": money}),
            Step(BOOK, {"id": self.ids("transfers"), **booked}),
        ]

    def _burst(self) -> list[Step]:
        """Many small transfers at once; even 40 from one account cannot overdraw it."""
        return [step for _ in range(BURST) for step in self._transfer(share=2 * BURST)]

    def _edit(self) -> list[Step]:
        return [self._edit_step()]

    def _edit_step(self) -> Step:
        customer = self._customer_keys.draw(self.rng)
        fresh = people.person(self.rng, customer)
        column = self.rng.choice(("name", "email", "phone", "date_of_birth", "address", "address"))
        return Step(EDIT_CUSTOMER, {"id": customer, "column": column, "value": fresh[column]})

    def _flip(self) -> list[Step]:
        customer = self._customer_keys.draw(self.rng)
        return [Step(EDIT_CUSTOMER, {"id": customer, "column": "preferred", "value": self.rng.random() < 0.3})]

    def _open_account(self) -> list[Step]:
        return [self._account_step(self._customer_keys.draw(self.rng))]

    def _account_step(self, customer: int) -> Step:
        kind = self.rng.choice(("checking", "savings"))
        return Step(ADD_ACCOUNT, {"id": self.ids("accounts"), "customer": customer, "type": kind})

    def _new_customer(self) -> list[Step]:
        """Add a customer with an empty account, into which somebody pays the first money."""
        key = self.ids("customers")
        account = self._account_step(key)
        steps = [Step(ADD_CUSTOMER, {"id": key, **people.person(self.rng, key)}), account]
        payer = self._account_keys.draw(self.rng)
        most = self.accounts[payer].cents // 4
        return [*steps, *self._move(payer, account.values["id"], self.rng.randint(1, most))] if most else steps

    def _freeze(self) -> list[Step]:
        account = self._account_keys.draw(self.rng)
        return [Step(EDIT_ACCOUNT, {"id": account, "status": self.rng.choice(("open", "frozen"))})]

    def _delete_customer(self) -> list[Step]:
        """Empty the accounts of a customer into somebody else's, then remove all of it."""
        leaving = self._customer_keys.draw(self.rng)
        heir = self._account_keys.draw(self.rng)
        if self.accounts[heir].customer == leaving:
            return [self._edit_step()]
        steps: list[Step] = []
        for key in self.customers[leaving]:
            if self.accounts[key].cents:
                steps += self._move(key, heir, self.accounts[key].cents)
            steps.append(Step(DROP_ACCOUNT, {"id": key}))
        return [*steps, Step(DROP_CUSTOMER, {"id": leaving})]

    def _rekey_customer(self) -> list[Step]:
        return [Step(REKEY_CUSTOMER, {"id": self._customer_keys.draw(self.rng), "new": self.ids("customers")})]

    def _rekey_account(self) -> list[Step]:
        return [Step(REKEY_ACCOUNT, {"id": self._account_keys.draw(self.rng), "new": self.ids("accounts")})]

    def _apply(self, name: str, values: Mapping[str, Any]) -> None:
        if name in (DEBIT, CREDIT):
            cents = int(values["amount"] * 100)
            self.accounts[values["id"]].cents += cents if name == CREDIT else -cents
        elif name == ADD_CUSTOMER:
            self._enter(values["id"])
        elif name == ADD_ACCOUNT:
            self._open(values["id"], values["customer"], 0)
        elif name == DROP_ACCOUNT:
            self._close(values["id"])
        elif name == DROP_CUSTOMER:
            self._leave(values["id"])
        elif name == REKEY_ACCOUNT:
            account = self._close(values["id"])
            self._open(values["new"], account.customer, account.cents)
        elif name == REKEY_CUSTOMER:
            self._rename(values["id"], values["new"])

    def _enter(self, customer: int) -> None:
        self.customers[customer] = []
        self._customer_keys.add(customer)

    def _leave(self, customer: int) -> list[int]:
        self._customer_keys.remove(customer)
        return self.customers.pop(customer)

    def _rename(self, old: int, new: int) -> None:
        accounts = self._leave(old)
        self._enter(new)
        self.customers[new] = accounts
        for key in accounts:
            self.accounts[key].customer = new

    def _open(self, key: int, customer: int, cents: int) -> None:
        self.accounts[key] = Account(customer, cents)
        self.customers[customer].append(key)
        self._account_keys.add(key)

    def _close(self, key: int) -> Account:
        account = self.accounts.pop(key)
        self.customers[account.customer].remove(key)
        self._account_keys.remove(key)
        return account


def amount(cents: int) -> Decimal:
    """Return cents as the numeric(14,2) that the database holds."""
    return Decimal(cents).scaleb(-2)
