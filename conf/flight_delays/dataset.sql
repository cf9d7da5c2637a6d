-- One row per flight. Every feature is known at the scheduled departure: the timetable, the aircraft, the weather so far.
-- LEFT joins only: flights without weather or a known aircraft are kept, with nulls.
WITH timetable AS (
  SELECT
    *,
    count(*) OVER earlier_today AS departures_before,
    count(*) OVER within_half_an_hour AS departures_around,
    CAST(least(timestampdiff(MINUTE, lag(scheduled_at) OVER aircraft, scheduled_at) / 60, 72) AS DOUBLE) AS aircraft_idle_h
  FROM silver.flights
  WINDOW
    earlier_today AS (PARTITION BY origin, year, month, day ORDER BY departure_minute RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    within_half_an_hour AS (PARTITION BY origin, year, month, day ORDER BY departure_minute RANGE BETWEEN 30 PRECEDING AND 30 FOLLOWING),
    aircraft AS (PARTITION BY tailnum ORDER BY scheduled_at, flight_id)
)
SELECT
  f.flight_id,
  f.scheduled_at,
  f.arr_delay > 30 AS is_late,  -- null where the flight was cancelled or diverted: scored, never trained on

  -- the timetable
  f.carrier, f.origin, f.dest, f.distance, f.weekday, f.departure_minute,
  f.departures_before, f.departures_around,

  -- the aircraft
  p.built, p.seats,
  CASE WHEN f.tailnum IS NOT NULL THEN f.aircraft_idle_h END AS aircraft_idle_h,  -- hours since its last scheduled departure; 72 means more, or none

  -- the weather at the airport
  w.temp, w.dewp, w.humid, w.precip, w.pressure, w.visib, w.wind_speed, w.wind_east, w.wind_north,
  w.precip_6h, w.wind_6h, w.visib_6h, w.pressure_change_3h,

  -- for queries, not features
  f.year, f.month, f.day, f.flight, f.tailnum, a.name AS destination,

  -- known only after the flight: `exclude` keeps them out of every model
  f.dep_time, f.dep_delay, f.arr_time, f.arr_delay, f.air_time
FROM timetable AS f
LEFT JOIN silver.planes AS p ON p.tailnum = f.tailnum
LEFT JOIN silver.conditions AS w
  ON w.origin = f.origin AND w.year = f.year AND w.month = f.month AND w.day = f.day AND w.hour = f.hour
LEFT JOIN silver.airports AS a ON a.airport = f.dest
