package clients

import (
	"cmp"
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

// history reads everything a watch has to say up to the revision, one line an event.
func history(
	t *testing.T, client *clientv3.Client, revision int64, key string,
	options ...clientv3.OpOption,
) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(harness.Context(t))
	defer cancel()
	watch := client.Watch(ctx, key, options...)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case response, open := <-watch:
			if !open {
				t.Fatalf("no progress to revision %d; seen %q", revision, lines)
			}
			if err := response.Err(); err != nil {
				return append(lines, harness.ShowWatch(response))
			}
			if response.IsProgressNotify() && response.Header.Revision >= revision {
				return lines
			}
			for _, event := range response.Events {
				lines = append(lines, harness.ShowEvent(event))
			}
		case <-poll.C:
			if err := client.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// pageHistory is furnish's history with a delete of several keys and a txn: revisions 2 to 14.
func pageHistory(t *testing.T, client *clientv3.Client) int64 {
	t.Helper()
	furnish(t, client)
	ctx := harness.Context(t)
	if _, err := client.Delete(ctx, "b/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	r, err := client.Txn(ctx).Then(clientv3.OpPut("b", "txn"), clientv3.OpPut("b/3", "txn"),
		clientv3.OpDelete("c")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func TestWatchHistory(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	revision := pageHistory(t, client)
	golden := harness.Golden(t)
	all, prefix, prev := clientv3.WithFromKey(), clientv3.WithPrefix(), clientv3.WithPrevKV()
	for _, one := range []get{
		{"everything", "", options(all, clientv3.WithRev(1))},
		{"everything with prev_kv", "", options(all, clientv3.WithRev(1), prev)},
		{"one key", "a", options(clientv3.WithRev(1))},
		{"one key from its change on", "a", options(clientv3.WithRev(7), prev)},
		{"one key after its last change", "a", options(clientv3.WithRev(13))},
		{"prefix", "b/", options(prefix, clientv3.WithRev(2), prev)},
		{"range", "b/2", options(clientv3.WithRange("d"), clientv3.WithRev(2))},
		{"from key", "c", options(all, clientv3.WithRev(9))},
		{"no puts", "", options(all, clientv3.WithRev(1), clientv3.WithFilterPut())},
		{"no deletes", "b", options(prefix, clientv3.WithRev(1), clientv3.WithFilterDelete())},
		{"neither", "", options(all, clientv3.WithRev(1), clientv3.WithFilterPut(),
			clientv3.WithFilterDelete())},
		{"from now", "", options(all)},
	} {
		golden.Section(one.label)
		for _, line := range history(t, client, revision, one.key, one.options...) {
			golden.Line("%s", line)
		}
	}
}

// Events of one revision arrive in one response; every revision has a response of its own when
// the watch is not behind.
func TestWatchLive(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	lease := grantFixed(t, client, 7)
	watch := client.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithCreatedNotify())
	golden.Line("%s", harness.ShowWatch(harness.Hear(t, watch)))
	step := func(label string, op clientv3.Op) {
		if _, err := client.Do(ctx, op); err != nil {
			t.Fatal(err)
		}
		golden.Line("%s: %s", label, harness.ShowWatch(harness.Hear(t, watch)))
	}
	step("put", clientv3.OpPut("k1", "1"))
	step("put again", clientv3.OpPut("k1", "2"))
	step("delete", clientv3.OpDelete("k1"))
	step("put after delete", clientv3.OpPut("k1", "3"))
	step("txn of puts", clientv3.OpTxn(nil, ops(clientv3.OpPut("k1", "4"),
		clientv3.OpPut("elsewhere", ""), clientv3.OpPut("k2", "1", clientv3.WithLease(lease)),
		clientv3.OpDelete("k3")), nil))
	step("txn of puts again", clientv3.OpTxn(nil, ops(clientv3.OpPut("k1", "4"),
		clientv3.OpPut("k3", "1", clientv3.WithLease(lease)),
		clientv3.OpPut("k2", "1", clientv3.WithLease(lease))), nil))
	step("range delete", clientv3.OpDelete("k", clientv3.WithRange("k2")))
	if _, err := client.Revoke(ctx, lease); err != nil {
		t.Fatal(err)
	}
	golden.Line("lease revoked: %s", harness.ShowWatch(harness.Hear(t, watch)))
	for _, label := range []string{"delete of nothing", "put elsewhere"} {
		op := clientv3.OpDelete("k")
		if label == "put elsewhere" {
			op = clientv3.OpPut("elsewhere", "1")
		}
		if _, err := client.Do(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	step("and on", clientv3.OpPut("k4", "1"))
}

// A watch below the compact revision is told so; one at it still gets everything from there on,
// deletes included.
func TestWatchCompacted(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	revision := pageHistory(t, client)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	if _, err := client.Compact(ctx, 9, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{1, 8, 9, 10} {
		golden.Section(fmt.Sprintf("from %d, compacted at 9", from))
		for _, line := range history(t, client, revision, "",
			clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
			golden.Line("%s", line)
		}
	}
	stream := harness.OpenWatch(t, server.Conn(t), false)
	stream.Create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 3})
	golden.Section("on the wire")
	golden.Line("%s", harness.ShowRawWatch(stream.Next(harness.Patience)))
	golden.Line("%s", harness.ShowRawWatch(stream.Next(harness.Patience)))
}

// A watch from a revision that does not exist yet stays silent until it does, progress included.
func TestWatchFuture(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	stream := harness.OpenWatch(t, server.Conn(t), false)
	stream.Create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 5})
	golden.Line("%s", harness.ShowRawWatch(stream.Next(harness.Patience)))
	for i := 2; i <= 7; i++ {
		stream.Progress()
		if _, err := client.Put(ctx, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, response := range stream.Settle(7, harness.Patience) {
		golden.Line("%s", harness.ShowRawWatch(response))
	}
}

// What a stream answers to creating and cancelling, on the wire.
func TestWatchProtocol(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	stream := harness.OpenWatch(t, server.Conn(t), false)
	key, end := []byte("k"), []byte("l")
	create := func(label string, request *pb.WatchCreateRequest) {
		stream.Create(request)
		golden.Line("%s: %s", label, harness.ShowRawWatch(stream.Next(harness.Patience)))
	}
	create("first", &pb.WatchCreateRequest{Key: key})
	create("second", &pb.WatchCreateRequest{Key: key, RangeEnd: end})
	create("id of its own", &pb.WatchCreateRequest{Key: key, WatchId: 7})
	create("id in use", &pb.WatchCreateRequest{Key: key, WatchId: 1})
	create("id ahead", &pb.WatchCreateRequest{Key: key, WatchId: 2})
	create("automatic after taken ids", &pb.WatchCreateRequest{Key: key})
	create("negative id", &pb.WatchCreateRequest{Key: key, WatchId: -5})
	create("empty range", &pb.WatchCreateRequest{Key: end, RangeEnd: key})
	create("range of the same ends", &pb.WatchCreateRequest{Key: key, RangeEnd: key})
	create("negative revision", &pb.WatchCreateRequest{Key: key, StartRevision: -1})
	create("no key", &pb.WatchCreateRequest{})
	create("everything", &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if _, err := client.Put(harness.Context(t), "k", "1"); err != nil {
		t.Fatal(err)
	}
	told := stream.Settle(2, harness.Patience)
	// Among the watches of one stream there is no order.
	slices.SortFunc(told, func(a, b *pb.WatchResponse) int {
		return cmp.Compare(a.WatchId, b.WatchId)
	})
	for _, response := range told {
		golden.Line("put: %s", harness.ShowRawWatch(response))
	}
	cancel := func(label string, id int64) {
		stream.Cancel(id)
		golden.Line("%s: %s", label, harness.ShowRawWatch(stream.Next(harness.Patience)))
	}
	cancel("cancel", 1)
	stream.Cancel(1)
	stream.Cancel(99)
	cancel("cancel after two of unknown ids", 7)
	create("id free again", &pb.WatchCreateRequest{Key: key, WatchId: 7})
	golden.Line("left: %d", len(stream.Settle(2, harness.Patience)))
}

// clientv3 turns the end of a watch into errors its users know.
func TestWatchErrors(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	ctx := harness.Context(t)
	for i := 0; i < 3; i++ {
		if _, err := client.Put(ctx, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Compact(ctx, 4); err != nil {
		t.Fatal(err)
	}
	response := harness.Hear(t, client.Watch(ctx, "k", clientv3.WithRev(2)))
	if response.Err() != rpctypes.ErrCompacted || response.CompactRevision != 4 {
		t.Fatalf("compacted: %v, %d", response.Err(), response.CompactRevision)
	}
	canceled, cancel := context.WithCancel(ctx)
	watch := client.Watch(canceled, "k")
	cancel()
	if _, open := <-watch; open {
		t.Fatal("a response after cancel")
	}
}
