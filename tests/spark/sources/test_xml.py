"""Every element of the records' name in an XML file is a record: good with the right values, or refused for a named reason."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal


def test_smoke(read) -> None:
    doc = b"""<?xml version="1.0"?>
<rows>
 <row id="1"><name>a</name><price currency="EUR">1.5</price><tag>x</tag><tag>y</tag><when>2013-01-01T10:00:00Z</when><on>2013-01-01</on></row>
 <row id="2"><name/><price currency="USD">x</price><tag>z</tag></row>
 <row id="3"><name>b</nme></row>
 <row id="4"><name>b</name><name>c</name></row>
</rows>
"""
    found = read("xml", {"a.xml": doc}, "_id INT, name STRING, price STRUCT<_VALUE: DOUBLE, _currency: STRING>, tag ARRAY<STRING>", rowTag="row")
    print(found.good, found.refused, found.counts)
    found = read("xml", {"a.xml": doc}, rowTag="row")
    print(found.schema.simpleString(), found.good, found.refused, found.counts)
    assert 0
