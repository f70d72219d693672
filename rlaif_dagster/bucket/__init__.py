"""Results on S3-compatible storage: `RLAIF_STORE=s3://bucket/prefix`.

The bucket is the truth and RLAIF_HOME a copy of it on each machine, so that everything that reads works on local files as
before. Nothing here is loaded, and boto3 needs not be installed, unless the variable is set.
"""
