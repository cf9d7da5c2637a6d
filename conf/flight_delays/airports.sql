-- One row per airport; `utc_offset_h` is its standard time against UTC.
SELECT faa AS airport, name, lat, lon, alt, tz AS utc_offset_h
FROM bronze.airports
