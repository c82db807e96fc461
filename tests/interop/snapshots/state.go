// Package snapshots carries a store from one server to another in a snapshot file and compares
// what arrives: keys with their revisions and history, leases, users and roles, and the hash.
package snapshots

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// furnish fills a store with everything a snapshot must carry, and returns the compact revision.
func furnish(t *testing.T, server *harness.Server) int64 {
	t.Helper()
	client := server.Client(t)
	ctx := harness.ContextFor(t, 3*harness.Patience)
	random := rand.New(rand.NewSource(harness.Seed(t)))
	leases := pb.NewLeaseClient(server.Conn(t))
	for id := int64(101); id <= 105; id++ {
		grant := &pb.LeaseGrantRequest{ID: id, TTL: id * 1000}
		if _, err := leases.LeaseGrant(ctx, grant); err != nil {
			t.Fatal(err)
		}
	}
	write := func(op clientv3.Op) int64 {
		t.Helper()
		r, err := client.Txn(ctx).Then(op).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	key := func() string { return fmt.Sprintf("k/%02d", random.Intn(60)) }
	compacted := int64(0)
	for i := range 600 {
		var revision int64
		switch n := random.Intn(10); {
		case n < 6:
			revision = write(clientv3.OpPut(key(), fmt.Sprintf("value %d", i)))
		case n < 7:
			id := clientv3.LeaseID(101 + random.Intn(5))
			revision = write(clientv3.OpPut(key(), "leased", clientv3.WithLease(id)))
		case n < 8:
			revision = write(clientv3.OpDelete(key()))
		case n < 9:
			revision = write(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("t/1", fmt.Sprint(i)),
				clientv3.OpPut("t/2", ""), clientv3.OpDelete("k/0", clientv3.WithPrefix())}, nil))
		default:
			size := random.Intn(20_000)
			revision = write(clientv3.OpPut(key(), strings.Repeat("x", size)))
		}
		if i == 400 {
			compacted = revision - 20
			_, err := client.Compact(ctx, compacted, clientv3.WithCompactPhysical())
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write(clientv3.OpPut("large", strings.Repeat("l", 1<<20)))
	write(clientv3.OpPut("binary\x00\xff", "\x00\x01\xff"))
	if _, err := client.Revoke(ctx, 105); err != nil {
		t.Fatal(err)
	}
	people(t, client)
	return compacted
}

// people adds a user and a role, without turning authentication on.
func people(t *testing.T, client *clientv3.Client) {
	t.Helper()
	if harness.NotBuilt(t, "auth") {
		return
	}
	ctx := harness.Context(t)
	if _, err := client.UserAdd(ctx, "someone", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RoleAdd(ctx, "readers"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RoleGrantPermission(ctx, "readers", "k/", "k0",
		clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UserGrantRole(ctx, "someone", "readers"); err != nil {
		t.Fatal(err)
	}
}

// describe writes all of a store that a snapshot carries, from the compact revision on.
func describe(t *testing.T, server *harness.Server, compacted int64) string {
	t.Helper()
	client := server.Client(t)
	ctx := harness.ContextFor(t, 3*harness.Patience)
	var out strings.Builder
	now, err := client.Get(ctx, "", clientv3.WithFromKey())
	fmt.Fprintf(&out, "now: %s\n", harness.ShowGet(now, err))
	if err != nil {
		return out.String()
	}
	for revision := compacted - 1; revision <= now.Header.Revision+1; revision++ {
		got, err := client.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithRev(revision))
		fmt.Fprintf(&out, "at %d: %s\n", revision, harness.ShowGet(got, err))
		hash, err := client.HashKV(ctx, server.Endpoint(), revision)
		if err != nil {
			fmt.Fprintf(&out, "hash at %d: %s\n", revision, harness.ShowError(err))
			continue
		}
		fmt.Fprintf(&out, "hash at %d: %08x, compacted %d, rev %d\n", revision, hash.Hash,
			hash.CompactRevision, hash.Header.Revision)
	}
	out.WriteString(showLeases(t, client))
	out.WriteString(showPeople(t, client))
	return out.String()
}

func showLeases(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	ctx := harness.Context(t)
	leases, err := client.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, lease := range leases.Leases {
		r, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		keys := make([]string, len(r.Keys))
		for i, key := range r.Keys {
			keys[i] = string(key)
		}
		slices.Sort(keys)
		lines = append(lines, fmt.Sprintf("lease %d: granted %d, keys %q\n", r.ID, r.GrantedTTL,
			keys))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func showPeople(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	if harness.NotBuilt(t, "auth") {
		return ""
	}
	ctx := harness.Context(t)
	users, err := client.UserList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("users %q\n", users.Users)
	for _, user := range users.Users {
		r, err := client.UserGet(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("user %s: roles %q\n", user, r.Roles)
	}
	roles, err := client.RoleList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles.Roles {
		r, err := client.RoleGet(ctx, role)
		if err != nil {
			t.Fatal(err)
		}
		for _, perm := range r.Perm {
			text += fmt.Sprintf("role %s: %s %q %q\n", role, perm.PermType, perm.Key, perm.RangeEnd)
		}
	}
	return text
}
