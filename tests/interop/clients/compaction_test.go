package clients

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

func TestCompaction(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	ctx := harness.ContextFor(t, 2*harness.Patience)
	compact := func(revision int64, options ...clientv3.CompactOption) {
		r, err := client.Compact(ctx, revision, options...)
		text := harness.ShowError(err)
		if err == nil {
			text = harness.ShowHeader(r.Header)
		}
		golden.Line("compact %d: %s", revision, text)
	}
	read := func(key string, revision int64) {
		r, err := client.Get(ctx, key, clientv3.WithPrefix(), clientv3.WithRev(revision))
		golden.Line("%q at %d: %s", key, revision, harness.ShowGet(r, err))
	}
	physical := clientv3.WithCompactPhysical()
	golden.Section("empty store")
	compact(-1)
	compact(0)
	compact(1)
	compact(2)
	furnish(t, client)
	golden.Section("history")
	compact(13)
	compact(4, physical)
	read("", 3)
	read("", 4)
	compact(4)
	compact(3)
	golden.Section("at a delete")
	compact(9, physical)
	read("", 8)
	read("", 9)
	read("c", 10)
	golden.Section("up to now")
	compact(12, physical)
	read("", 11)
	read("", 12)
	read("", 0)
	compact(12)
	compact(13)
	golden.Section("of nothing but deletes")
	if _, err := client.Delete(ctx, "", clientv3.WithFromKey()); err != nil {
		t.Fatal(err)
	}
	compact(13, physical)
	read("", 0)
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	golden.Section("after a restart the revision has not gone back")
	read("", 0)
	read("", 12)
	compact(13)
	put, err := client.Put(ctx, "next", "1")
	golden.Line("put: %s", harness.ShowPut(put, err))
}

// A compaction larger than a batch keeps what it must and frees what it may, and a physical one
// says so only when done.
func TestCompactionOfManyRevisions(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.ContextFor(t, 2*harness.Patience)
	const keys, rounds = 300, 20
	for round := range rounds {
		for begin := 0; begin < keys; begin += 100 {
			var puts []clientv3.Op
			for i := begin; i < begin+100; i++ {
				puts = append(puts, clientv3.OpPut(fmt.Sprintf("k%03d", i), fmt.Sprint(round)))
			}
			if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, err := client.Get(ctx, "", clientv3.WithFromKey())
	if err != nil || before.Count != keys {
		t.Fatalf("%v, %v", before, err)
	}
	if _, err := client.Compact(ctx, before.Header.Revision-1,
		clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		after, err := client.Get(ctx, "", clientv3.WithFromKey())
		if err != nil || harness.ShowGet(after, nil) != harness.ShowGet(before, nil) {
			t.Fatalf("%v; before %s\nafter %s", err, harness.ShowGet(before, nil),
				harness.ShowGet(after, nil))
		}
		older, err := client.Get(ctx, "", clientv3.WithFromKey(),
			clientv3.WithRev(before.Header.Revision-1))
		if err != nil || older.Count != keys || string(older.Kvs[keys-1].Value) != "18" ||
			string(older.Kvs[0].Value) != "19" {
			t.Fatalf("at the compact revision: %v, %s", err, harness.ShowGet(older, nil))
		}
		server.Kill()
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
}
