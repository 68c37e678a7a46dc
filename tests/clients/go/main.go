// Checks one organization several times with grpc-go and stubs generated from our protos.
//
// Usage: client HOST:PORT ORGANIZATION CHECKS
//
// Prints one JSON object: the answers in order, then what GetUsage says.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "tidegate.dev/tests/clients/go/ratelimitv1"
)

type report struct {
	Allowed      []bool            `json:"allowed"`
	RetryAfterMs []uint64          `json:"retry_after_ms"`
	Used         map[string]uint64 `json:"used"`
	ZeroCost     string            `json:"zero_cost"`
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: client HOST:PORT ORGANIZATION CHECKS")
	}
	checks, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	service := pb.NewRateLimitServiceClient(connection)
	attributes := map[string]string{"organization": os.Args[2]}
	out := report{Used: map[string]uint64{}}
	for range checks {
		answer, err := service.Check(ctx, &pb.CheckRequest{Attributes: attributes})
		if err != nil {
			log.Fatal(err)
		}
		out.Allowed = append(out.Allowed, answer.Allowed)
		out.RetryAfterMs = append(out.RetryAfterMs, answer.RetryAfterMs)
	}
	usage, err := service.GetUsage(ctx, &pb.GetUsageRequest{Attributes: attributes})
	if err != nil {
		log.Fatal(err)
	}
	for _, limit := range usage.Limits {
		out.Used[limit.Name] = limit.Used
	}
	zero := uint64(0)
	_, err = service.Check(ctx, &pb.CheckRequest{Attributes: attributes, Cost: &zero})
	out.ZeroCost = status.Code(err).String()
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}
