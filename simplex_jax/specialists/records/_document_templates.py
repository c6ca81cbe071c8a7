"""Layouts of the business documents, and the words that fill them."""

from .._template import Template

SURNAMES = (
    "Abbott Baker Carver Dalton Ellis Fisher Grant Harper Ingram Jensen Keller Lowell "
    "Mercer Norton Osborn Parker Quinn Ramsey Sawyer Turner Upton Vaughn Walker Yates "
    "Arden Burke Conway Drake Fuller Garner Hobbs Irving Keane Landon Monroe Nash "
    "Pruitt Rhodes Stone Tanner"
).split()
TRADES = (
    "Tools Books Foods Motors Paints Textiles Glass Timber Optics Garden Press Media "
    "Logistics Catering Ceramics Electric Bikes Studio Pharmacy Hardware"
).split()
ITEMS = (
    "bolts cable paper chairs lamps paint rope glue nails soap bread cheese apples "
    "coffee tea rice towels brushes batteries gloves filters hinges tiles boxes labels"
).split()
MONTHS = (
    "January February March April May June July August September October November "
    "December"
).split()

# n1, r1, m1 and t1 are typed; n2, r2, r3, m2 and t2 are stamped copies of them.
_TRAIN = {
    "invoice": """
Invoice {n1} by {party} ({quality} scan). {i1} {a}, {i2} {b}. Subtotal {subtotal}, \
tax {rate}% {tax}, total {total}. Ref {n2}.
{party}, {quality} scan. Bill no. {n1}: {i1} at {a} plus {i2} at {b}; net {subtotal}; \
VAT {rate}% makes {tax}; pay {total}. Quote {n2}.
Scan: {quality}. To settle invoice {n1}, {party}: {i1} = {a}; {i2} = {b}; sum \
{subtotal}; {rate}% tax = {tax}; due {total}. Stamp {n2}.
INVOICE #{n1} | {party} | {i1}: {a} | {i2}: {b} | SUBTOTAL: {subtotal} | TAX {rate}%: \
{tax} | TOTAL: {total} | #{n2} | {quality} scan
From a {quality} scan: invoice {n1}, {party} charges {a} for {i1} and {b} for {i2}, \
together {subtotal}, with {rate}% tax of {tax}, in all {total}. Copy {n2}.
""",
    "receipt": """
{party} receipt {n1}, {quality} print. {i1} {a}, {i2} {b}, {i3} {c}. Subtotal \
{subtotal}. Tax {rate}% {tax}. Total {t1}. Card {t2}.
Thank you for shopping at {party}! Slip {n1}. {i1}: {a}, {i2}: {b}, {i3}: {c}. Sum \
{subtotal}, {rate}% tax {tax}, to pay {t1}, paid {t2}. Print: {quality}.
{quality} print * {party} * NO {n1} * {i1} {a} * {i2} {b} * {i3} {c} * SUB {subtotal} \
* TAX {rate}% {tax} * TOTAL {t1} * CASH {t2}
Till slip {n1} ({quality} print) from {party}: {i1} for {a}, {i2} for {b}, {i3} for \
{c}; goods {subtotal}, tax {rate}% {tax}, total {t1}, tendered {t2}.
{party} | ticket {n1} | {i1}={a} | {i2}={b} | {i3}={c} | goods={subtotal} | tax \
{rate}%={tax} | total={t1} | received={t2} | print {quality}
""",
    "letter": """
{date}. Re: claim {r1}. Dear customer, we owe you {m1} under claim {r2}. Yours, \
{party}. Enclosed: claim {r3}, cheque {m2}. Scan {quality}.
Letter of {date}, {quality} scan. Your reference {r1}. We ask you to pay {m1} and \
quote {r2}. Regards, {party}. Slip: {r3}, {m2}.
{party}, {date}. Order {r1} is overdue: please send {m1}. Mention {r2} on the \
transfer. Form: {r3} / {m2}. ({quality} scan)
[{quality} scan] {date} - Dear tenant, file {r1}: your deposit of {m1} is ready. \
Bring file {r2}. {party}. Voucher {r3} for {m2}.
Reminder dated {date} from {party}: contract {r1} lacks a payment of {m1}. Write {r2} \
on it. Coupon {r3}, sum {m2}. Scan quality: {quality}.
""",
}

_HELDOUT = {
    "invoice": """
A {quality} scan of our account with {party}, document {n1}. Lines: {i1}, {a}; {i2}, \
{b}. Before tax {subtotal}, {rate}% adds {tax}, after tax {total}. File {n2}.
{party} / inv. {n1} / {quality} scan / {i1} {a} / {i2} {b} / net {subtotal} / tax \
({rate}%) {tax} / gross {total} / inv. {n2}
Please find bill {n1} ({party}, {quality} scan). You bought {i1} for {a}, {i2} for \
{b}. That is {subtotal}; plus {rate}% or {tax}; grand total {total}. See {n2}.
""",
    "receipt": """
A {quality} print, number {n1}, says {party}: {a} {i1}, {b} {i2}, {c} {i3}, before \
tax {subtotal}, {rate}% tax {tax}, altogether {t1}, charged {t2}.
Purchase {n1} at {party} - {i1} ({a}), {i2} ({b}), {i3} ({c}) - net {subtotal} - \
{rate}% tax: {tax} - amount {t1} - debit {t2} - {quality} print
Sales slip no. {n1}, print {quality}, shop {party}. Bought {i1} {a}; {i2} {b}; {i3} \
{c}. Comes to {subtotal}, tax of {rate}% is {tax}, final {t1}. Account charged {t2}.
""",
    "letter": """
On {date} {party} wrote: case {r1} is closed, we refund {m1}. Keep number {r2}. \
Attached note {r3} over {m2}. {quality} scan.
{quality} scan | {date} | {party} | policy {r1} | premium due {m1} | cite {r2} | \
tear-off: {r3} {m2}
To our member, {date}. Account {r1} shows a credit of {m1}; give {r2} when calling. \
{party}. Receipt part: {r3}, {m2}; scan {quality}.
""",
}


def _templates() -> tuple[Template, ...]:
    found = []
    for split, texts in (("train", _TRAIN), ("heldout", _HELDOUT)):
        for label, block in texts.items():
            for i, line in enumerate(block.strip().splitlines()):
                found.append(Template(f"{split}-{label}-{i}", split, label, line))
    return tuple(found)


TEMPLATES = _templates()
