-- The weather of the hour, and of the hours before it. One row per airport and hour.
SELECT
  origin, year, month, day, hour,
  temp, dewp, humid, wind_speed, precip, pressure, visib,
  wind_speed * sin(radians(wind_dir)) AS wind_east,
  wind_speed * cos(radians(wind_dir)) AS wind_north,
  sum(precip) OVER last_6h AS precip_6h,
  max(wind_speed) OVER last_6h AS wind_6h,
  min(visib) OVER last_6h AS visib_6h,
  pressure - first_value(pressure) OVER three_hours_ago AS pressure_change_3h
FROM silver.weather
WINDOW
  last_6h AS (PARTITION BY origin ORDER BY observed_at RANGE BETWEEN INTERVAL 5 HOURS PRECEDING AND CURRENT ROW),
  three_hours_ago AS (PARTITION BY origin ORDER BY observed_at RANGE BETWEEN INTERVAL 3 HOURS PRECEDING AND INTERVAL 3 HOURS PRECEDING)
