-- One row per airport and hour, in the airport's local time.
-- On the night the clocks go back, the hour from one to two occurs twice: the earlier observation is kept.
WITH numbered AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY origin, year, month, day, hour ORDER BY time_hour) AS observation
  FROM bronze.weather
)
SELECT
  origin, year, month, day, hour,
  CAST(time_hour AS TIMESTAMP) AS observed_at,
  temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
FROM numbered
WHERE observation = 1
