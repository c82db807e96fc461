package clients

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// get is a labelled read; the label is what the golden file shows.
type get struct {
	label   string
	key     string
	options []clientv3.OpOption
}

func options(list ...clientv3.OpOption) []clientv3.OpOption { return list }

// furnish writes the small history the read tests look at: revisions 2 to 12.
func furnish(t *testing.T, client *clientv3.Client) {
	t.Helper()
	ctx := harness.Context(t)
	lease := grantFixed(t, client, 17)
	steps := []clientv3.Op{
		clientv3.OpPut("a", "9"),
		clientv3.OpPut("b", "8"),
		clientv3.OpPut("b/1", "7"),
		clientv3.OpPut("b/2", "6"),
		clientv3.OpPut("c", "5"),
		clientv3.OpPut("a", "4"),
		clientv3.OpPut("b/1", ""),
		clientv3.OpDelete("c"),
		clientv3.OpPut("c", "2", clientv3.WithLease(lease)),
		clientv3.OpPut("d\x00\xff", "\x00\x01\xfe"),
		clientv3.OpPut("a", "1"),
	}
	for _, step := range steps {
		if _, err := client.Do(ctx, step); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRange(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	golden.Section("empty store")
	golden.Line("everything: %s", harness.ShowGet(client.Get(ctx, "", clientv3.WithFromKey())))
	golden.Line("no key: %s", harness.ShowGet(client.Get(ctx, "")))
	furnish(t, client)
	for _, group := range []struct {
		title string
		gets  []get
	}{
		{"selectors", selectors()},
		{"revisions", revisions()},
		{"limit and order", orders()},
		{"revision filters", filters()},
		{"shape", shapes()},
	} {
		golden.Section(group.title)
		for _, one := range group.gets {
			r, err := client.Get(ctx, one.key, one.options...)
			golden.Line("%s: %s", one.label, harness.ShowGet(r, err))
		}
	}
}

func selectors() []get {
	return []get{
		{"one key", "a", nil},
		{"missing key", "zz", nil},
		{"binary key", "d\x00\xff", nil},
		{"[b, c)", "b", options(clientv3.WithRange("c"))},
		{"[b, b)", "b", options(clientv3.WithRange("b"))},
		{"[c, b)", "c", options(clientv3.WithRange("b"))},
		{"prefix b", "b", options(clientv3.WithPrefix())},
		{"prefix b/", "b/", options(clientv3.WithPrefix())},
		{"empty prefix", "", options(clientv3.WithPrefix())},
		{"from b/2", "b/2", options(clientv3.WithFromKey())},
		{"from the start", "", options(clientv3.WithFromKey())},
		{"from beyond the end", "zz", options(clientv3.WithFromKey())},
		{"serializable", "a", options(clientv3.WithSerializable())},
	}
}

func revisions() []get {
	var gets []get
	for _, revision := range []int64{-1, 0, 1, 2, 6, 8, 9, 10, 12, 13, 1 << 62} {
		gets = append(gets, get{fmt.Sprintf("all at %d", revision), "",
			options(clientv3.WithFromKey(), clientv3.WithRev(revision))})
	}
	return append(gets,
		get{"c before it was deleted", "c", options(clientv3.WithRev(8))},
		get{"c while deleted", "c", options(clientv3.WithRev(9))},
		get{"c made again", "c", options(clientv3.WithRev(10))},
	)
}

func orders() []get {
	var gets []get
	for _, limit := range []int64{-1, 1, 2, 5, 6, 7} {
		gets = append(gets, get{fmt.Sprintf("all, limit %d", limit), "",
			options(clientv3.WithFromKey(), clientv3.WithLimit(limit))})
	}
	targets := []struct {
		name   string
		target clientv3.SortTarget
	}{
		{"key", clientv3.SortByKey}, {"create", clientv3.SortByCreateRevision},
		{"mod", clientv3.SortByModRevision}, {"value", clientv3.SortByValue},
	}
	orders := []struct {
		name  string
		order clientv3.SortOrder
	}{{"none", clientv3.SortNone}, {"up", clientv3.SortAscend}, {"down", clientv3.SortDescend}}
	for _, target := range targets {
		for _, order := range orders {
			for _, limit := range []int64{0, 3} {
				gets = append(gets, get{
					fmt.Sprintf("by %s %s, limit %d", target.name, order.name, limit), "",
					options(clientv3.WithFromKey(), clientv3.WithLimit(limit),
						clientv3.WithSort(target.target, order.order))})
			}
		}
	}
	// a has version 3 and b/1 version 2; the others tie, and etcd promises nothing among ties.
	return append(gets,
		get{"highest versions", "", options(clientv3.WithFromKey(), clientv3.WithLimit(2),
			clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend))},
		get{"first created", "", clientv3.WithFirstCreate()},
		get{"last created", "", clientv3.WithLastCreate()},
		get{"first key", "", clientv3.WithFirstKey()},
		get{"last key", "", clientv3.WithLastKey()},
		get{"first changed", "", clientv3.WithFirstRev()},
		get{"last changed", "", clientv3.WithLastRev()},
		get{"unknown order", "", options(clientv3.WithFromKey(),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortOrder(7)))},
		get{"unknown target", "", options(clientv3.WithFromKey(),
			clientv3.WithSort(clientv3.SortTarget(7), clientv3.SortAscend))},
	)
}

func filters() []get {
	all := clientv3.WithFromKey()
	return []get{
		{"mod >= 8", "", options(all, clientv3.WithMinModRev(8))},
		{"mod <= 8", "", options(all, clientv3.WithMaxModRev(8))},
		{"5 <= mod <= 10", "", options(all, clientv3.WithMinModRev(5), clientv3.WithMaxModRev(10))},
		{"create >= 5", "", options(all, clientv3.WithMinCreateRev(5))},
		{"create <= 5", "", options(all, clientv3.WithMaxCreateRev(5))},
		{"3 <= create <= 5", "", options(all,
			clientv3.WithMinCreateRev(3), clientv3.WithMaxCreateRev(5))},
		{"mod >= 5, limit 1", "", options(all, clientv3.WithMinModRev(5), clientv3.WithLimit(1))},
		{"mod >= 5, count only", "", options(all, clientv3.WithMinModRev(5),
			clientv3.WithCountOnly())},
		{"mod >= 100", "", options(all, clientv3.WithMinModRev(100))},
		{"create >= 4 by mod down, limit 2", "", options(all, clientv3.WithMinCreateRev(4),
			clientv3.WithLimit(2), clientv3.WithSort(clientv3.SortByModRevision,
				clientv3.SortDescend))},
		{"mod <= 5 at revision 6", "", options(all, clientv3.WithMaxModRev(5),
			clientv3.WithRev(6))},
	}
}

func shapes() []get {
	all := clientv3.WithFromKey()
	return []get{
		{"count only", "", options(all, clientv3.WithCountOnly())},
		{"count only, limit 1", "", options(all, clientv3.WithCountOnly(), clientv3.WithLimit(1))},
		{"count only at 3", "", options(all, clientv3.WithCountOnly(), clientv3.WithRev(3))},
		{"keys only", "", options(all, clientv3.WithKeysOnly())},
		{"keys only, limit 2", "", options(all, clientv3.WithKeysOnly(), clientv3.WithLimit(2))},
		{"keys only at 5", "", options(all, clientv3.WithKeysOnly(), clientv3.WithRev(5))},
		{"keys only by mod down", "", options(all, clientv3.WithKeysOnly(),
			clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))},
		{"keys only by value", "", options(all, clientv3.WithKeysOnly(),
			clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend))},
		{"count only and keys only", "", options(all, clientv3.WithCountOnly(),
			clientv3.WithKeysOnly())},
	}
}
