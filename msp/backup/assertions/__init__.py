"""Questions put to restored data: databases in files and database servers started for the test."""
