"""Which names mean a key of another table."""

from __future__ import annotations

import pytest

from tidemill.quality.profiling.references import is_named_after


@pytest.mark.parametrize(
    ("name", "reference", "means_it"),
    [
        ("carrier", "silver.airlines.carrier", True),
        ("marketing_carrier", "silver.airlines.carrier", True),
        ("carrier", "silver.airlines.carrier_code", True),
        ("carrierCode", "silver.airlines.carrier_code", True),
        ("customer_id", "silver.customers.id", True),
        ("homeCustomerID", "silver.customers.id", True),
        ("customer", "silver.customers.customer_id", True),
        ("company", "silver.companies.id", True),
        ("address_id", "silver.addresses.id", True),
        ("status", "silver.status.code", True),
        ("id", "silver.customers.id", False),
        ("code", "silver.status.code", False),
        ("customer_age", "silver.customers.customer_id", False),
        ("customer_number", "silver.customers.id", False),
        ("month", "silver.customers.id", False),
        ("dest", "silver.airports.faa", False),
        ("", "silver.airports.faa", False),
    ],
)
def test_a_name_means_a_key_where_it_ends_with_it(name, reference, means_it):
    table, _, key = reference.rpartition(".")
    assert is_named_after(name, table, key) is means_it
