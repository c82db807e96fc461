package clients

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// grantFixed grants a lease under an id of the test's choice, which clientv3 does not offer.
func grantFixed(t *testing.T, client *clientv3.Client, id int64) clientv3.LeaseID {
	t.Helper()
	stub := pb.NewLeaseClient(client.ActiveConnection())
	r, err := stub.LeaseGrant(harness.Context(t), &pb.LeaseGrantRequest{ID: id, TTL: 600})
	if err != nil || r.ID != id || r.TTL != 600 {
		t.Fatalf("grant of %d: %v, %v", id, r, err)
	}
	return clientv3.LeaseID(id)
}

func showGrant(r *clientv3.LeaseGrantResponse, err error) string {
	if err != nil {
		return harness.ShowError(err)
	}
	return fmt.Sprintf("%s id %d ttl %d", harness.ShowHeader(r.ResponseHeader), r.ID, r.TTL)
}

func TestLease(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	stub := pb.NewLeaseClient(server.Conn(t))
	grant := func(label string, id, ttl int64) {
		r, err := stub.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		if err != nil {
			golden.Line("%s: %s", label, harness.ShowError(err))
			return
		}
		golden.Line("%s: %s id %d ttl %d%s", label, harness.ShowHeader(r.Header), r.ID, r.TTL,
			r.Error)
	}
	golden.Section("grant")
	grant("plain", 5, 100)
	grant("same id", 5, 100)
	grant("raised to the least", 6, 1)
	grant("zero", 7, 0)
	grant("negative", 8, -9)
	grant("largest", 9, 9_000_000_000)
	grant("too large", 10, 9_000_000_001)
	grant("negative id", -3, 100)
	own, err := client.Grant(ctx, 50)
	if err != nil || own.ID <= 0 || own.TTL != 50 {
		t.Fatalf("id of the server's choice: %s", showGrant(own, err))
	}
	if _, err := client.Revoke(ctx, own.ID); err != nil {
		t.Error(err)
	}

	leaseKeys(t, client, golden)
}

// leaseKeys attaches keys to the leases granted before, and takes the leases away.
func leaseKeys(t *testing.T, client *clientv3.Client, golden *harness.Transcript) {
	ctx := harness.Context(t)
	golden.Section("keys")
	for _, key := range []string{"b", "a", "c"} {
		if _, err := client.Put(ctx, key, "1", clientv3.WithLease(5)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Put(ctx, "c", "elsewhere", clientv3.WithLease(9)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []clientv3.LeaseID{5, 9, -3, 99} {
		golden.Line("%d: %s", id, showTimeToLive(client.TimeToLive(ctx, id,
			clientv3.WithAttachedKeys())))
		golden.Line("%d without keys: %s", id, showTimeToLive(client.TimeToLive(ctx, id)))
	}

	golden.Section("keep alive")
	for _, id := range []clientv3.LeaseID{5, 99} {
		r, err := client.KeepAliveOnce(ctx, id)
		if err != nil {
			golden.Line("%d: %s", id, harness.ShowError(err))
			continue
		}
		golden.Line("%d: %s id %d ttl %d", id, harness.ShowHeader(r.ResponseHeader), r.ID, r.TTL)
	}

	golden.Section("revoke")
	revoke := func(id clientv3.LeaseID) {
		r, err := client.Revoke(ctx, id)
		if err != nil {
			golden.Line("%d: %s", id, harness.ShowError(err))
			return
		}
		golden.Line("%d: %s", id, harness.ShowHeader(r.Header))
		got, err := client.Get(ctx, "", clientv3.WithFromKey())
		golden.Line("  left %s", harness.ShowGet(got, err))
	}
	revoke(5)
	revoke(5)
	revoke(9)
	revoke(-3)
	revoke(99)
}

// showTimeToLive leaves the remaining time out, checked only to be within what was granted.
func showTimeToLive(r *clientv3.LeaseTimeToLiveResponse, err error) string {
	if err != nil {
		return harness.ShowError(err)
	}
	remaining := fmt.Sprint(r.TTL)
	if r.TTL > 0 && r.TTL > r.GrantedTTL-10 && r.TTL <= r.GrantedTTL {
		remaining = "all"
	}
	slices.SortFunc(r.Keys, bytes.Compare)
	return fmt.Sprintf("%s id %d granted %d left %s keys %q",
		harness.ShowHeader(r.ResponseHeader), r.ID, r.GrantedTTL, remaining, r.Keys)
}

func TestLeaseList(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	ctx := harness.Context(t)
	stub := pb.NewLeaseClient(client.ActiveConnection())
	if r, err := client.Leases(ctx); err != nil || len(r.Leases) != 0 {
		t.Fatalf("%v, %v", r, err)
	}
	ttls := map[int64]int64{11: 500, 12: 100, 13: 900, 14: 300}
	for id, ttl := range ttls {
		if _, err := stub.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := client.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, lease := range r.Leases {
		ids = append(ids, int64(lease.ID))
	}
	// By remaining time, the shortest first.
	if want := []int64{12, 14, 11, 13}; !slices.Equal(ids, want) {
		t.Errorf("%v, expected %v", ids, want)
	}
}

// A lease outlives its TTL as long as it is kept alive, and its keys go, all in one revision and
// in order, soon after it is not. It never goes early.
func TestLeaseExpiry(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	ctx := harness.Context(t)
	watch := client.Watch(ctx, "x/", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	harness.Hear(t, watch)
	const ttl = 2 * time.Second
	lease, err := client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"x/2", "x/1", "x/3"} {
		if _, err := client.Put(ctx, key, key, clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	alive, stop := context.WithCancel(ctx)
	answers, err := client.KeepAlive(alive, lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	until := time.After(2 * ttl)
	for kept := true; kept; {
		select {
		case r := <-answers:
			if r == nil || r.TTL != 2 {
				t.Fatalf("keep alive: %v", r)
			}
		case r := <-watch:
			t.Fatalf("gone while kept alive: %s", harness.ShowWatch(r))
		case <-until:
			kept = false
		}
	}
	stop()
	before := time.Now()
	if _, err := client.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	r := harness.Hear(t, watch)
	// Measured from before the last renewal: at least the TTL must have passed.
	if early := time.Since(before); early < ttl {
		t.Errorf("expired after %v", early)
	} else if early > 4*ttl {
		t.Errorf("expired only after %v", early)
	}
	if len(r.Events) != 3 {
		t.Fatalf("%s", harness.ShowWatch(r))
	}
	for i, event := range r.Events {
		want := fmt.Sprintf("x/%d", i+1)
		if string(event.Kv.Key) != want || string(event.PrevKv.GetValue()) != want {
			t.Errorf("event %d: %s", i, harness.ShowEvent(event))
		}
	}
	if left, err := client.TimeToLive(ctx, lease.ID); err != nil || left.TTL != -1 {
		t.Errorf("after expiry: %v, %v", left, err)
	}
	if _, err := client.KeepAliveOnce(ctx, lease.ID); err != rpctypes.ErrLeaseNotFound {
		t.Errorf("keep alive after expiry: %v", err)
	}
}

// A lease, its TTL and its keys survive a restart; the time starts anew.
func TestLeaseSurvivesRestart(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	grantFixed(t, client, 21)
	ctx := harness.ContextFor(t, time.Minute)
	if _, err := client.Put(ctx, "k", "1", clientv3.WithLease(21)); err != nil {
		t.Fatal(err)
	}
	short, err := client.Grant(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "short", "1", clientv3.WithLease(short.ID)); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	left, err := client.TimeToLive(ctx, 21, clientv3.WithAttachedKeys())
	if err != nil || left.GrantedTTL != 600 || len(left.Keys) != 1 || string(left.Keys[0]) != "k" {
		t.Fatalf("%v, %v", left, err)
	}
	harness.Eventually(t, 20*time.Second, func() string {
		got, err := client.Get(ctx, "short")
		if err != nil || got.Count != 0 {
			return fmt.Sprintf("the short lease's key: %v, %v", got, err)
		}
		return ""
	})
	if _, err := client.Revoke(ctx, 21); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(ctx, "k"); err != nil || got.Count != 0 {
		t.Fatalf("attached key after revoke: %v, %v", got, err)
	}
}
