package harness

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Patience bounds a single request: longer than any request should take on a busy machine.
const Patience = 20 * time.Second

// Client is etcd's own client, closed with the test.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{s.Endpoint()},
		DialTimeout: Patience,
		// The client logs refused requests as warnings; the tests provoke many.
		Logger: zap.NewNop(),
		TLS:    s.Options.TLS,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Conn is a bare connection: no checks, retries or error mapping of clientv3 between the test
// and the wire.
func (s *Server) Conn(t testing.TB) *grpc.ClientConn {
	t.Helper()
	target := strings.TrimPrefix(s.Endpoint(), "http://")
	conn, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Context is bounded by the test and by Patience.
func Context(t testing.TB) context.Context {
	t.Helper()
	return ContextFor(t, Patience)
}

// ContextFor is bounded by the test and by the given time.
func ContextFor(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}
