package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// Every comparison with a key that is there, one that is gone, and one that never was.
func TestTxnCompare(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	lease := grantFixed(t, client, 100)
	for _, op := range []clientv3.Op{
		clientv3.OpPut("there", "m"),
		clientv3.OpPut("there", "m", clientv3.WithLease(lease)),
		clientv3.OpPut("gone", "m"),
		clientv3.OpDelete("gone"),
		clientv3.OpPut("range/1", "m"),
		clientv3.OpPut("range/2", "n"),
	} {
		if _, err := client.Do(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"there", "gone", "never"} {
		golden.Section("key " + key)
		compares(ctx, golden, client, "value", clientv3.Value(key), "", "l", "m", "n")
		compares(ctx, golden, client, "version", clientv3.Version(key), 0, 1, 2, 3)
		compares(ctx, golden, client, "create", clientv3.CreateRevision(key), 0, 1, 2, 3)
		compares(ctx, golden, client, "mod", clientv3.ModRevision(key), 0, 2, 3, 4)
		compares(ctx, golden, client, "lease", clientv3.LeaseValue(key), 0, 99, 100, 101)
	}
	golden.Section("ranges: every key must fit")
	all := clientv3.Value("range/").WithPrefix()
	compares(ctx, golden, client, "value of two", all, "l", "m", "n", "o")
	compares(ctx, golden, client, "version of two",
		clientv3.Version("range/").WithPrefix(), 0, 1, 2)
	compares(ctx, golden, client, "mod of two",
		clientv3.ModRevision("range/").WithPrefix(), 5, 6, 7, 8)
	compares(ctx, golden, client, "version of none",
		clientv3.Version("nothing/").WithPrefix(), 0, 1)
	compares(ctx, golden, client, "value of none",
		clientv3.Value("nothing/").WithPrefix(), "", "x")
}

// compares writes one line: the outcome of every relation with every value.
func compares[V any](
	ctx context.Context, golden *harness.Transcript, client *clientv3.Client, label string,
	subject clientv3.Cmp, values ...V,
) {
	var out []string
	for _, relation := range []string{"=", "!=", "<", ">"} {
		for _, value := range values {
			r, err := client.Txn(ctx).
				If(clientv3.Compare(subject.Clone(), relation, value)).Commit()
			outcome := ""
			switch {
			case err != nil:
				outcome = harness.ShowError(err)
			case r.Succeeded:
				outcome = "yes"
			default:
				outcome = "no"
			}
			out = append(out, fmt.Sprintf("%s %v %s", relation, value, outcome))
		}
	}
	golden.Line("%s: %s", label, strings.Join(out, ", "))
}

// script runs one transaction after the other and writes what each answered and left behind.
type script struct {
	t      *testing.T
	client *clientv3.Client
	golden *harness.Transcript
}

func (s script) txn(label string, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) {
	s.t.Helper()
	ctx := harness.Context(s.t)
	s.golden.Section(label)
	r, err := s.client.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	s.golden.Line("%s", harness.ShowTxn(r, err))
	got, err := s.client.Get(ctx, "", clientv3.WithFromKey())
	s.golden.Line("store: %s", harness.ShowGet(got, err))
}

func ops(list ...clientv3.Op) []clientv3.Op    { return list }
func cmps(list ...clientv3.Cmp) []clientv3.Cmp { return list }

func TestTxn(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	s := script{t, client, harness.Golden(t)}
	exists := clientv3.Compare(clientv3.Version("a"), ">", 0)
	all := clientv3.OpGet("", clientv3.WithFromKey())
	s.txn("empty", nil, nil, nil)
	s.txn("reads only", nil, ops(all), nil)
	s.txn("else branch", cmps(exists), ops(clientv3.OpPut("wrong", "")),
		ops(clientv3.OpPut("a", "1"), clientv3.OpGet("a")))
	s.txn("then branch", cmps(exists), ops(clientv3.OpPut("a", "2", clientv3.WithPrevKV())), nil)
	s.txn("all of several compares", cmps(exists, clientv3.Compare(clientv3.Value("a"), "=", "x")),
		nil, ops(clientv3.OpGet("a")))
	s.txn("reads around writes", nil, ops(all, clientv3.OpPut("b", "1"), all,
		clientv3.OpPut("c", "1"), clientv3.OpDelete("a", clientv3.WithPrevKV()), all), nil)
	s.txn("a delete of nothing changes no revision", nil, ops(clientv3.OpDelete("a")), nil)
	s.txn("delete, then read at the revision before", nil, ops(clientv3.OpDelete("b"),
		clientv3.OpGet("b", clientv3.WithRev(4)), clientv3.OpGet("b")), nil)
	s.txn("overlapping deletes", nil, ops(clientv3.OpPut("e", "1"),
		clientv3.OpDelete("c"), clientv3.OpDelete("c", clientv3.WithRange("d"))), nil)
	s.txn("nested", cmps(clientv3.Compare(clientv3.Version("n"), "=", 0)), ops(
		clientv3.OpPut("n", "outer"),
		clientv3.OpTxn(cmps(clientv3.Compare(clientv3.Version("n"), "=", 0)),
			ops(clientv3.OpPut("n/1", "compared before the outer put"), all),
			ops(clientv3.OpPut("n/1", "compared after the outer put"))),
		clientv3.OpTxn(cmps(exists), ops(clientv3.OpPut("n/2", "then")), ops(
			clientv3.OpPut("n/2", "else"),
			clientv3.OpTxn(nil, ops(clientv3.OpDelete("e", clientv3.WithPrevKV()), all), nil))),
	), nil)
	s.txn("the same key in both nested branches", nil, ops(clientv3.OpTxn(cmps(exists),
		ops(clientv3.OpPut("x", "then")), ops(clientv3.OpPut("x", "else")))), nil)
	s.txn("nested reads only", nil, ops(clientv3.OpTxn(nil, ops(all), nil)), nil)
	s.txn("reads with every option", nil, ops(
		clientv3.OpGet("n", clientv3.WithPrefix(), clientv3.WithLimit(1)),
		clientv3.OpGet("n", clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet("n", clientv3.WithPrefix(), clientv3.WithCountOnly()),
		clientv3.OpGet("n", clientv3.WithPrefix(),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)),
		clientv3.OpGet("", clientv3.WithFromKey(), clientv3.WithRev(2)),
		clientv3.OpGet("n", clientv3.WithPrefix(), clientv3.WithSerializable())), nil)
}

// Refused transactions leave nothing behind, whatever came before the offending part.
func TestTxnRefused(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	s := script{t, client, harness.Golden(t)}
	put := clientv3.OpPut("a", "1")
	nest := func(inner ...clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, inner, nil) }
	prefix := clientv3.WithPrefix()
	s.txn("first", nil, ops(clientv3.OpPut("seed", "1")), nil)
	s.txn("same key twice", nil, ops(put, put), nil)
	s.txn("same key twice, in the branch not taken", nil, ops(put), ops(
		clientv3.OpPut("b", ""), clientv3.OpPut("b", "")))
	s.txn("put and delete", nil, ops(clientv3.OpPut("k", ""), clientv3.OpDelete("k")), nil)
	s.txn("delete and put", nil, ops(clientv3.OpDelete("k"), clientv3.OpPut("k", "")), nil)
	s.txn("put inside a deleted range", nil,
		ops(clientv3.OpPut("k", ""), clientv3.OpDelete("", prefix)), nil)
	s.txn("put beside a delete from key", nil,
		ops(clientv3.OpPut("k", ""), clientv3.OpDelete("j", clientv3.WithFromKey())), nil)
	s.txn("put and nested put", nil, ops(clientv3.OpPut("k", ""), nest(clientv3.OpPut("k", ""))),
		nil)
	s.txn("nested put and put", nil, ops(nest(clientv3.OpPut("k", "")), clientv3.OpPut("k", "")),
		nil)
	s.txn("puts in sibling txns", nil,
		ops(nest(clientv3.OpPut("k", "")), nest(clientv3.OpPut("k", ""))), nil)
	s.txn("nested put, outer delete", nil,
		ops(nest(clientv3.OpPut("k", "")), clientv3.OpDelete("k")), nil)
	s.txn("nested delete, outer put", nil,
		ops(nest(clientv3.OpDelete("k")), clientv3.OpPut("k", "")), nil)
	s.txn("nested put, later sibling delete", nil,
		ops(nest(clientv3.OpPut("k", "")), nest(clientv3.OpDelete("k"))), nil)
	s.txn("nested delete, later sibling put", nil,
		ops(nest(clientv3.OpDelete("k")), nest(clientv3.OpPut("k", ""))), nil)
	s.txn("put without key", nil, ops(put, clientv3.OpPut("", "")), nil)
	s.txn("range without key", nil, ops(put, clientv3.OpGet("")), nil)
	s.txn("delete without key", nil, ops(put, clientv3.OpDelete("")), nil)
	s.txn("compare without key", cmps(clientv3.Compare(clientv3.Version(""), "=", 0)), ops(put),
		nil)
	s.txn("unknown lease", nil,
		ops(put, clientv3.OpPut("b", "", clientv3.WithLease(absentLease))), nil)
	s.txn("ignore value of no key", nil,
		ops(put, clientv3.OpPut("b", "", clientv3.WithIgnoreValue())), nil)
	s.txn("ignore lease of no key", nil,
		ops(put, clientv3.OpPut("b", "", clientv3.WithIgnoreLease())), nil)
	s.txn("ignore value of a key this txn makes", nil,
		ops(put, nest(clientv3.OpPut("b", "", clientv3.WithIgnoreValue()))), nil)
	s.txn("future read", nil, ops(put, clientv3.OpGet("a", clientv3.WithRev(99))), nil)
	s.txn("future read, nested", nil, ops(put, nest(clientv3.OpGet("a", clientv3.WithRev(99)))),
		nil)
	s.txn("future read in the branch not taken", nil, ops(put),
		ops(clientv3.OpGet("a", clientv3.WithRev(99))))
	s.txn("future read without a write", nil, ops(clientv3.OpGet("a", clientv3.WithRev(99))), nil)
	s.txn("unknown sort", nil, ops(put, clientv3.OpGet("a", prefix,
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortOrder(9)))), nil)
	if _, err := client.Compact(harness.Context(t), 2); err != nil {
		t.Fatal(err)
	}
	s.txn("compacted read", nil, ops(clientv3.OpPut("c", "1"),
		clientv3.OpGet("a", clientv3.WithRev(1))), nil)
	s.txn("compacted read without a write", nil, ops(clientv3.OpGet("a", clientv3.WithRev(1))),
		nil)
}

// The budget of 128 counts the longest of compares, then and else; a nested transaction gets what
// its parent left.
func TestTxnTooManyOps(t *testing.T) {
	client := harness.Start(t, harness.UnderTest(t), harness.Options{}).Client(t)
	golden := harness.Golden(t)
	puts := func(name string, n int) (list []clientv3.Op) {
		for i := 0; i < n; i++ {
			list = append(list, clientv3.OpPut(fmt.Sprintf("%s%d", name, i), ""))
		}
		return list
	}
	compared := func(n int) (list []clientv3.Cmp) {
		for i := 0; i < n; i++ {
			list = append(list, clientv3.Compare(clientv3.Version(fmt.Sprint(i)), "=", 0))
		}
		return list
	}
	nested := func(outer, inner int) []clientv3.Op {
		return append(puts("outer", outer-1), clientv3.OpTxn(nil, puts("inner", inner), nil))
	}
	for _, one := range []struct {
		label     string
		cmps      []clientv3.Cmp
		then      []clientv3.Op
		otherwise []clientv3.Op
	}{
		{"128 puts", nil, puts("a", 128), nil},
		{"129 puts", nil, puts("a", 129), nil},
		{"129 puts not taken", nil, nil, puts("a", 129)},
		{"128 compares", compared(128), nil, nil},
		{"129 compares", compared(129), nil, nil},
		{"128 of each", compared(128), puts("a", 128), puts("b", 128)},
		{"nested 64 in 64", nil, nested(64, 64), nil},
		{"nested 65 in 64", nil, nested(64, 65), nil},
		{"nested 128 in 1", nil, nested(1, 128), nil},
		{"nested 127 in 1", nil, nested(1, 127), nil},
	} {
		r, err := client.Txn(harness.Context(t)).
			If(one.cmps...).Then(one.then...).Else(one.otherwise...).Commit()
		outcome := harness.ShowError(err)
		if err == nil {
			outcome = fmt.Sprintf("rev %d, %d answers", r.Header.Revision, len(r.Responses))
		}
		golden.Line("%s: %s", one.label, outcome)
	}
}
