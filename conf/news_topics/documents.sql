-- One row a document, from the two files of the published split. A document may be there twice, word for word: they are told apart by
-- counting. The files' lines of types come along and are dropped by a rule that says how many they were.
SELECT
  concat_ws('-', part, _source_row_hash, row_number() OVER (PARTITION BY part, _source_row_hash ORDER BY text)) AS document_id,
  part,
  topic,
  text
FROM (
  SELECT
    CASE WHEN _source_file LIKE '%/train.tab' THEN 'train' WHEN _source_file LIKE '%/test.tab' THEN 'test' END AS part,
    Category AS topic,
    Text AS text,
    _source_row_hash
  FROM bronze.news_topics_documents
)
