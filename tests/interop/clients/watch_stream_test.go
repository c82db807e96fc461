package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// A response too large for one message is cut between events when the client allows it; the
// pieces say so and add up to the one revision.
func TestWatchFragments(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.Context(t)
	const keys, size = 8, 500 << 10
	for i := range keys {
		value := strings.Repeat(fmt.Sprint(i), size)
		if _, err := client.Put(ctx, fmt.Sprintf("f%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	raw := harness.OpenWatch(t, server.Conn(t), false)
	whole, pieces := []byte("f"), []byte("g")
	raw.Create(&pb.WatchCreateRequest{Key: whole, RangeEnd: pieces, PrevKv: true, WatchId: 1})
	raw.Create(&pb.WatchCreateRequest{Key: whole, RangeEnd: pieces, PrevKv: true, WatchId: 2,
		Fragment: true})
	raw.Next(harness.Patience)
	raw.Next(harness.Patience)
	watch := client.Watch(ctx, "f", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithFragment(), clientv3.WithCreatedNotify())
	harness.Hear(t, watch)
	// One revision with 4 MB of previous values: far over the 2 MiB a message may hold.
	r, err := client.Delete(ctx, "f", clientv3.WithPrefix())
	if err != nil || r.Deleted != keys {
		t.Fatalf("%v, %v", r, err)
	}
	seen := map[int64][]*pb.WatchResponse{}
	for _, response := range raw.Settle(r.Header.Revision, harness.Patience) {
		seen[response.WatchId] = append(seen[response.WatchId], response)
	}
	if one := seen[1]; len(one) != 1 || one[0].Fragment || len(one[0].Events) != keys {
		t.Errorf("without fragments: %d responses", len(one))
	}
	if len(seen[2]) < 2 {
		t.Errorf("with fragments: %d responses", len(seen[2]))
	}
	next := 0
	for i, response := range seen[2] {
		if last := i == len(seen[2])-1; response.Fragment == last {
			t.Errorf("piece %d of %d: fragment=%v", i, len(seen[2]), response.Fragment)
		}
		for _, event := range response.Events {
			want := fmt.Sprintf("f%d", next)
			if string(event.Kv.Key) != want || len(event.PrevKv.GetValue()) != size ||
				event.Kv.ModRevision != r.Header.Revision {
				t.Errorf("event %d: %s", next, harness.ShowEvent((*clientv3.Event)(event)))
			}
			next++
		}
	}
	if joined := harness.Hear(t, watch); next != keys || len(joined.Events) != keys {
		t.Errorf("%d events in pieces, %d through clientv3", next, len(joined.Events))
	}
}

// One stream carries many watches; each gets its own events, and one answer about progress
// covers them all.
func TestWatchManyOnOneStream(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.Context(t)
	const watches, rounds = 200, 5
	stream := harness.OpenWatch(t, server.Conn(t), true)
	for i := range watches {
		key := fmt.Sprintf("many/%03d", i)
		stream.Create(&pb.WatchCreateRequest{Key: []byte(key)})
		if r := stream.Next(harness.Patience); r.WatchId != int64(i) || !r.Created {
			t.Fatalf("create %d: %s", i, harness.ShowRawWatch(r))
		}
	}
	var revision int64
	for round := range rounds {
		for i := range watches {
			r, err := client.Put(ctx, fmt.Sprintf("many/%03d", i), fmt.Sprint(round))
			if err != nil {
				t.Fatal(err)
			}
			revision = r.Header.Revision
		}
	}
	count := make([]int, watches)
	for _, response := range stream.Settle(revision, harness.Patience) {
		for _, event := range response.Events {
			id := response.WatchId
			want := fmt.Sprintf("many/%03d=%d", id, count[id])
			if got := fmt.Sprintf("%s=%s", event.Kv.Key, event.Kv.Value); got != want {
				t.Fatalf("watch %d: %s, expected %s", id, got, want)
			}
			count[id]++
		}
	}
	for id, n := range count {
		if n != rounds {
			t.Errorf("watch %d: %d events", id, n)
		}
	}
}

// Progress comes on request and, where asked for, on its own; an idle watch learns the revision
// of writes elsewhere from it.
func TestWatchProgress(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{
		Args: []string{"--watch-progress-notify-interval", "200ms"}})
	client := server.Client(t)
	ctx := harness.Context(t)
	stream := harness.OpenWatch(t, server.Conn(t), false)
	// With no watch at all the request is ignored; the one after the creation is not.
	stream.Progress()
	stream.Create(&pb.WatchCreateRequest{Key: []byte("idle"), ProgressNotify: true})
	stream.Create(&pb.WatchCreateRequest{Key: []byte("silent")})
	for id := range 2 {
		if r := stream.Next(harness.Patience); !r.Created || r.WatchId != int64(id) {
			t.Fatalf("expected the creation: %s", harness.ShowRawWatch(r))
		}
	}
	put, err := client.Put(ctx, "elsewhere", "1")
	if err != nil {
		t.Fatal(err)
	}
	want := put.Header.Revision
	own := 0
	for own < 2 {
		r := stream.Next(harness.Patience)
		if !harness.IsProgress(r) || r.WatchId != 0 {
			t.Fatalf("expected progress of watch 0: %s", harness.ShowRawWatch(r))
		}
		if r.Header.Revision >= want {
			own++
		}
	}
	stream.Progress()
	for {
		r := stream.Next(harness.Patience)
		if r.WatchId == -1 && harness.IsProgress(r) && r.Header.Revision == want {
			break
		}
	}
	// Through clientv3 both watches of the stream hear the answer.
	first, second := client.Watch(ctx, "x"), client.Watch(ctx, "y")
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for heard := map[string]bool{}; !heard["first"] || !heard["second"]; {
		select {
		case r, open := <-first:
			heard["first"] = open && r.IsProgressNotify()
		case r, open := <-second:
			heard["second"] = open && r.IsProgressNotify()
		case <-poll.C:
			if err := client.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatalf("of two watches only these heard of progress: %v", heard)
		}
	}
}

// Progress never runs ahead of events: whatever was acknowledged at or below the revision it
// names has been delivered on that stream, also while the watch catches up with history.
func TestWatchProgressNeverAhead(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.Context(t)
	const writes = 3000
	written := make(chan error, 1)
	go func() {
		for i := range writes {
			if _, err := client.Put(ctx, "k", fmt.Sprint(i)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	conn := server.Conn(t)
	for opened := 0; ; opened++ {
		stream := harness.OpenWatch(t, conn, false)
		stream.Create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1})
		next, answers := int64(2), 0
		poll := time.NewTicker(time.Millisecond)
		for answers < 5 {
			var r *pb.WatchResponse
			select {
			case <-poll.C:
				stream.Progress()
				continue
			case r = <-stream.Responses:
				if r == nil {
					t.Fatalf("watch stream ended: %v", stream.Err)
				}
			case <-ctx.Done():
				t.Fatalf("%d answers about progress at event %d", answers, next)
			}
			if harness.IsProgress(r) {
				answers++
				if r.Header.Revision >= next {
					t.Fatalf("progress %d before event %d", r.Header.Revision, next)
				}
			}
			for _, event := range r.Events {
				if event.Kv.ModRevision != next {
					t.Fatalf("event %d instead of %d", event.Kv.ModRevision, next)
				}
				next++
			}
		}
		poll.Stop()
		stream.Close()
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d streams watched %d writes", opened+1, writes)
			return
		default:
		}
	}
}

// A reader that does not read misses nothing and holds up nobody else.
func TestWatchSlowReader(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.ContextFor(t, 3*time.Minute)
	stream, err := pb.NewWatchClient(server.Conn(t)).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("slow"), PrevKv: true}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	quick := client.Watch(ctx, "slow")
	// 64 MB with previous values: more than gRPC's windows and any queue should hold.
	const writes, size = 2000, 16 << 10
	value := strings.Repeat("x", size)
	for i := range writes {
		if _, err := client.Put(ctx, "slow", value+fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for next := int64(2); next < writes+2; {
		for _, event := range harness.Hear(t, quick).Events {
			if event.Kv.ModRevision != next {
				t.Fatalf("quick reader: event %d instead of %d", event.Kv.ModRevision, next)
			}
			next++
		}
	}
	for next := int64(2); next < writes+2; {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision != next || next > 2 && event.PrevKv.GetModRevision() != next-1 {
				t.Fatalf("slow reader: event %d (previous %d) instead of %d",
					event.Kv.ModRevision, event.PrevKv.GetModRevision(), next)
			}
			next++
		}
	}
}

// clientv3 resumes a watch over a restart of the server without a gap or a repetition.
func TestWatchResumesAfterRestart(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.ContextFor(t, 2*time.Minute)
	watch := client.Watch(ctx, "k")
	next := int64(2)
	for restart := range 3 {
		for i := range 20 {
			put, err := client.Put(ctx, "k", fmt.Sprint(restart, i))
			if err != nil {
				t.Fatal(err)
			}
			if i == 10 {
				continue
			}
			for next <= put.Header.Revision {
				response := harness.Hear(t, watch)
				if err := response.Err(); err != nil {
					t.Fatal(err)
				}
				for _, event := range response.Events {
					if event.Kv.ModRevision != next {
						t.Fatalf("event %d instead of %d", event.Kv.ModRevision, next)
					}
					next++
				}
			}
		}
		server.Kill()
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
}

// With require-leader a watch ends when the leader is gone; without it stays, and goes on when a
// leader is back.
func TestWatchRequireLeader(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	members := harness.StartCluster(t, harness.UnderTest(t), 3, harness.Options{})
	client := members[0].Client(t)
	ctx := harness.ContextFor(t, 2*time.Minute)
	patient := client.Watch(ctx, "k", clientv3.WithCreatedNotify())
	required := client.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithCreatedNotify())
	harness.Hear(t, patient)
	harness.Hear(t, required)
	members[1].Kill()
	members[2].Kill()
	select {
	case response := <-required:
		if response.Err() != rpctypes.ErrNoLeader {
			t.Fatalf("without a leader: %v", response.Err())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("still watching without a leader")
	}
	refused := harness.Hear(t, client.Watch(clientv3.WithRequireLeader(ctx), "k"))
	if refused.Err() != rpctypes.ErrNoLeader {
		t.Errorf("new watch without a leader: %v", refused.Err())
	}
	if got, err := client.Get(ctx, "k", clientv3.WithSerializable()); err != nil {
		t.Errorf("serializable read without a leader: %v, %v", got, err)
	}
	short, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), 10*time.Second)
	defer cancel()
	if _, err := client.Put(short, "k", "no leader"); err != rpctypes.ErrNoLeader {
		t.Errorf("put that requires a leader: %v", err)
	}
	if err := members[1].Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "k", "back"); err != nil {
		t.Fatal(err)
	}
	if r := harness.Hear(t, patient); len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "back" {
		t.Fatalf("after the leader came back: %s", harness.ShowWatch(r))
	}
}
