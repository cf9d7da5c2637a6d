-- One row per document, from the two files of the published split. Identical documents are numbered, so that their keys differ. The files'
-- lines of types are rows here too; the expectation `is_document` drops them and limits how many there may be.
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
