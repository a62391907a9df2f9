"""Files of problems, documents, pairs and prefixes: rows and documents, as trainers and evaluations take them."""
