"""The bucket of the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tailrace.control.resources.dynamodb import asking
from tailrace.resource import Step

if TYPE_CHECKING:
    from tailrace.control.services import Services

KIND = "bucket"


class BucketResource:
    """One bucket; nothing in it is ever changed from here."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bucket = services.project.settings.lake.bucket

    def inspect(self) -> Step:
        """Say whether the bucket is there and ours."""
        with asking("S3", f"the bucket {self._bucket}"):
            try:
                self._services.s3.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                code = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if code == 404:
                    return Step(KIND, self._bucket, "create")
                if code in (301, 403):
                    line = "the name is taken by somebody else: choose another [lake] bucket"
                    return Step(KIND, self._bucket, "conflict", (line,))
                raise
        return Step(KIND, self._bucket, "none")

    def apply(self) -> None:
        """Create it, in the client's region."""
        region = self._services.s3.meta.region_name
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with asking("S3", f"the bucket {self._bucket}"):
            self._services.s3.create_bucket(Bucket=self._bucket, **place)
