package clients

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

const absentLease = clientv3.LeaseID(0x7b)

func TestPut(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	lease := grantFixed(t, client, 1)
	put := func(label, key, value string, options ...clientv3.OpOption) {
		r, err := client.Put(ctx, key, value, options...)
		golden.Line("%s: %s", label, harness.ShowPut(r, err))
		got, err := client.Get(ctx, "k", clientv3.WithPrefix())
		golden.Line("  then %s", harness.ShowGet(got, err))
	}
	put("create", "k", "1")
	put("update", "k", "2")
	put("same value again", "k", "2")
	put("with prev_kv", "k", "3", clientv3.WithPrevKV())
	put("new key with prev_kv", "k2", "1", clientv3.WithPrevKV())
	put("empty value", "k", "")
	put("no key", "", "1")
	put("attach a lease", "k", "4", clientv3.WithLease(lease))
	put("ignore value", "k", "", clientv3.WithIgnoreValue(), clientv3.WithPrevKV())
	put("attach again", "k", "5", clientv3.WithLease(lease))
	put("ignore lease", "k", "6", clientv3.WithIgnoreLease(), clientv3.WithPrevKV())
	put("ignore both", "k", "", clientv3.WithIgnoreLease(), clientv3.WithIgnoreValue())
	put("detach", "k", "7")
	put("unknown lease", "k", "8", clientv3.WithLease(absentLease))
	put("ignore value, value given", "k", "9", clientv3.WithIgnoreValue())
	put("ignore lease, lease given", "k", "9", clientv3.WithIgnoreLease(),
		clientv3.WithLease(lease))
	put("ignore value of no key", "none", "", clientv3.WithIgnoreValue())
	put("ignore lease of no key", "none", "1", clientv3.WithIgnoreLease())
}

func TestDelete(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	for i := 0; i < 9; i++ {
		if _, err := client.Put(ctx, fmt.Sprintf("k%d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(label, key string, options ...clientv3.OpOption) {
		r, err := client.Delete(ctx, key, options...)
		golden.Line("%s: %s", label, harness.ShowDelete(r, err))
		got, err := client.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
		golden.Line("  then %s", harness.ShowGet(got, err))
	}
	remove("missing key", "none")
	remove("no key", "")
	remove("one key", "k0")
	remove("the same again", "k0")
	remove("with prev_kv", "k1", clientv3.WithPrevKV())
	remove("empty range", "k9", clientv3.WithRange("k2"))
	remove("range", "k2", clientv3.WithRange("k4"))
	remove("range with prev_kv", "k4", clientv3.WithRange("k6"), clientv3.WithPrevKV())
	remove("prefix", "k6", clientv3.WithPrefix())
	remove("from key", "k7", clientv3.WithFromKey(), clientv3.WithPrevKV())
	remove("everything, of nothing", "", clientv3.WithPrefix())
	if _, err := client.Put(ctx, "k8", "again"); err != nil {
		t.Fatal(err)
	}
	r, err := client.Get(ctx, "k8")
	golden.Line("made again: %s", harness.ShowGet(r, err))
	remove("everything", "", clientv3.WithPrefix())
}

// The largest request etcd takes is 1.5 MiB, counted on the request as replicated; values close
// to it must come back whole through every read there is.
func TestLargeValues(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	ctx := harness.Context(t)
	const limit = 3 << 19
	watch := client.Watch(ctx, "large", clientv3.WithPrefix(), clientv3.WithPrevKV())
	sizes := []int{1, 1 << 10, 1 << 16, 1 << 20, limit - 512}
	var revision int64
	for round := 0; round < 2; round++ {
		for i, size := range sizes {
			value := strings.Repeat(string(rune('a'+i+round)), size)
			r, err := client.Put(ctx, fmt.Sprintf("large%d", i), value)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			revision = r.Header.Revision
		}
	}
	for next := int64(2); next <= revision; {
		response := harness.Hear(t, watch)
		if response.Err() != nil {
			t.Fatal(response.Err())
		}
		for _, event := range response.Events {
			i := int(next-2) % len(sizes)
			if event.Kv.ModRevision != next || len(event.Kv.Value) != sizes[i] {
				t.Fatalf("event %d: %s", next, harness.ShowEvent(event))
			}
			if next-2 >= int64(len(sizes)) && len(event.PrevKv.Value) != sizes[i] {
				t.Fatalf("event %d without its previous value", next)
			}
			next++
		}
	}
	got, err := client.Get(ctx, "large", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != len(sizes) {
		t.Fatalf("%v, %v", err, got)
	}
	for i, kv := range got.Kvs {
		if want := strings.Repeat(string(rune('a'+i+1)), sizes[i]); string(kv.Value) != want {
			t.Fatalf("%s: %d bytes, not the %d written", kv.Key, len(kv.Value), len(want))
		}
	}
	golden := harness.Golden(t)
	for _, size := range []int{limit, limit + 1<<18} {
		put, err := client.Put(ctx, "over", strings.Repeat("x", size))
		golden.Line("put of %d bytes: %s", size, harness.ShowPut(put, err))
		txn, err := client.Txn(ctx).Then(clientv3.OpPut("over", strings.Repeat("x", size))).Commit()
		golden.Line("txn of %d bytes: %s", size, harness.ShowTxn(txn, err))
	}
	over, err := client.Get(ctx, "over")
	golden.Line("afterwards: %s", harness.ShowGet(over, err))
}

// A list of many keys arrives whole, whatever its size, and pages add up to it.
func TestManyKeys(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	ctx := harness.Context(t)
	const keys, batch = 10_000, 100
	for i := 0; i < keys; i += batch {
		var puts []clientv3.Op
		for j := i; j < i+batch; j++ {
			key := fmt.Sprintf("many/%05d", j)
			puts = append(puts, clientv3.OpPut(key, strings.Repeat(key, 20)))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := client.Get(ctx, "many/", clientv3.WithPrefix())
	if err != nil || whole.Count != keys || len(whole.Kvs) != keys || whole.More {
		t.Fatalf("whole: %v, count %d, %d rows", err, whole.Count, len(whole.Kvs))
	}
	next, seen := "many/", 0
	for {
		page, err := client.Get(ctx, next, clientv3.WithRange("many0"), clientv3.WithLimit(777),
			clientv3.WithRev(whole.Header.Revision))
		if err != nil || page.Count != int64(keys-seen) {
			t.Fatalf("page from %q: %v, count %d with %d seen", next, err, page.Count, seen)
		}
		for _, kv := range page.Kvs {
			if harness.ShowKV(kv) != harness.ShowKV(whole.Kvs[seen]) {
				t.Fatalf("row %d: %s", seen, harness.ShowKV(kv))
			}
			seen++
		}
		if !page.More {
			break
		}
		next = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	if seen != keys {
		t.Fatalf("%d of %d keys in pages", seen, keys)
	}
}
