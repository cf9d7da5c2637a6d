-- One row per aircraft; manufacturers with several names get one.
SELECT
  tailnum,
  year AS built,
  CASE
    WHEN manufacturer LIKE 'AIRBUS%' THEN 'AIRBUS'
    WHEN manufacturer LIKE 'MCDONNELL DOUGLAS%' THEN 'MCDONNELL DOUGLAS'
    ELSE manufacturer
  END AS manufacturer,
  model, engines, seats
FROM bronze.planes
