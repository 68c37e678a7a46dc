"""Checks one organization several times with grpcio and stubs generated from our protos.

Usage: client.py HOST:PORT ORGANIZATION CHECKS

Prints one JSON object: the answers in order, then what GetUsage says.
"""

import json
import sys

import grpc
from tidegate.ratelimit.v1 import ratelimit_pb2 as pb
from tidegate.ratelimit.v1 import ratelimit_pb2_grpc as rpc


def main(address: str, organization: str, checks: int) -> None:
    attributes = {"organization": organization}
    with grpc.insecure_channel(address) as channel:
        service = rpc.RateLimitServiceStub(channel)
        answers = [
            service.Check(pb.CheckRequest(attributes=attributes), timeout=10) for _ in range(checks)
        ]
        usage = service.GetUsage(pb.GetUsageRequest(attributes=attributes), timeout=10)
        refused = ""
        try:
            service.Check(pb.CheckRequest(attributes=attributes, cost=0), timeout=10)
        except grpc.RpcError as error:
            refused = error.code().name
    print(
        json.dumps(
            {
                "allowed": [answer.allowed for answer in answers],
                "retry_after_ms": [answer.retry_after_ms for answer in answers],
                "used": {limit.name: limit.used for limit in usage.limits},
                "zero_cost": refused,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
