-- One row per flight scheduled to leave New York City in 2013, cancelled ones included.
-- A clock time of 517 means 5:17, local time of the airport. `scheduled_at` is the same instant in UTC.
SELECT
  concat(
    CAST(year AS STRING), '-', lpad(CAST(month AS STRING), 2, '0'), '-', lpad(CAST(day AS STRING), 2, '0'),
    '-', carrier, '-', CAST(flight AS STRING), '-', origin
  ) AS flight_id,
  timestampadd(MINUTE, minute, time_hour) AS scheduled_at,
  year, month, day, hour, minute,
  carrier, flight, tailnum, origin, dest, distance,
  hour * 60 + minute AS departure_minute,
  (sched_arr_time DIV 100) * 60 + sched_arr_time % 100 AS arrival_minute,
  weekday(from_utc_timestamp(time_hour, 'America/New_York')) AS weekday,
  sched_dep_time, sched_arr_time,
  dep_time, dep_delay, arr_time, arr_delay, air_time
FROM bronze.flights
