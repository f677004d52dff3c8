"""Media files on S3; the only place that calls the S3 client."""
