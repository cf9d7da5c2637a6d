-- One row per airport; `utc_offset_h` is its standard offset from UTC, in hours.
SELECT faa AS airport, name, lat, lon, alt, tz AS utc_offset_h
FROM bronze.airports
