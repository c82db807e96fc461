package snapshots

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// tool is the program whose snapshot subcommands go with a server: kvorum has its own.
func tool(t *testing.T, program harness.Program) string {
	t.Helper()
	if program.Etcd {
		return harness.Etcdutl(t)
	}
	return program.Path
}

// save takes a snapshot through etcdctl.
func save(t *testing.T, server *harness.Server) string {
	t.Helper()
	path := filepath.Join(harness.TempDir(t), "snapshot.db")
	server.Ctl(t, "snapshot", "save", path)
	return path
}

// restore makes a data directory from a snapshot and starts a server on it.
func restore(
	t *testing.T, program harness.Program, path string, flags ...string,
) *harness.Server {
	t.Helper()
	server := harness.New(t, program, harness.Options{})
	args := append([]string{"snapshot", "restore", path, "--data-dir", server.Options.DataDir,
		"--initial-cluster", server.Options.InitialCluster,
		"--initial-advertise-peer-urls", server.Options.PeerURL}, flags...)
	harness.Succeed(t, tool(t, program), args...)
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	return server
}

// status is what both tools say about a file.
func status(t *testing.T, program, path string) map[string]any {
	t.Helper()
	text := harness.Succeed(t, program, "snapshot", "status", path, "-w", "json")
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return fields
}

// A store goes from either server to either server, and what arrives is what was there.
func TestSnapshotCarriesTheStore(t *testing.T) {
	subject, reference := harness.UnderTest(t), harness.Reference(t)
	for _, one := range []struct {
		name     string
		from, to harness.Program
	}{
		{"subject to etcd", subject, reference},
		{"etcd to subject", reference, subject},
		{"subject to subject", subject, subject},
	} {
		t.Run(one.name, func(t *testing.T) { carry(t, one.from, one.to) })
	}
}

func carry(t *testing.T, from, to harness.Program) {
	source := harness.Start(t, from, harness.Options{})
	compacted := furnish(t, source)
	path := save(t, source)
	// After a restart no hash is remembered from the compaction: all are computed from the rows.
	source.Kill()
	if err := source.Run(); err != nil {
		t.Fatal(err)
	}
	want := describe(t, source, compacted)
	fields := status(t, harness.Etcdutl(t), path)
	now, err := source.Client(t).Get(harness.Context(t), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	if fields["revision"] != float64(now.Header.Revision) || fields["version"] != "3.7.0" {
		t.Errorf("etcdutl snapshot status: %v, at %s", fields, harness.ShowHeader(now.Header))
	}
	for _, program := range []harness.Program{from, to} {
		if got := status(t, tool(t, program), path); fmt.Sprint(got) != fmt.Sprint(fields) {
			t.Errorf("%s: %v, etcdutl: %v", tool(t, program), got, fields)
		}
	}
	restored := restore(t, to, path)
	if got := describe(t, restored, compacted); got != want {
		t.Fatalf("(- before, + restored)\n%s", harness.Difference(want, got))
	}
	// It is a live store: it goes on at the next revision, also after a restart.
	put, err := restored.Client(t).Put(harness.Context(t), "after", "1")
	if err != nil || put.Header.Revision != now.Header.Revision+1 {
		t.Fatalf("%v, %v", put, err)
	}
	restored.Kill()
	if err := restored.Run(); err != nil {
		t.Fatal(err)
	}
	got, err := restored.Client(t).Get(harness.Context(t), "after")
	if err != nil || got.Count != 1 || got.Header.Revision != put.Header.Revision {
		t.Fatalf("%v, %v", got, err)
	}
}

// Three members restored from one file with the flags of a cluster agree, and replicate.
func TestSnapshotRestoresACluster(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	subject, reference := harness.UnderTest(t), harness.Reference(t)
	source := harness.Start(t, reference, harness.Options{})
	furnish(t, source)
	path := save(t, source)
	members := make([]*harness.Server, 3)
	var names []string
	for i := range members {
		name := fmt.Sprintf("m%d", i)
		members[i] = harness.New(t, subject, harness.Options{Name: name, InitialCluster: "later",
			Args: []string{"--initial-cluster-token", "restored"}})
		names = append(names, name+"="+members[i].Options.PeerURL)
	}
	for _, member := range members {
		member.Options.InitialCluster = strings.Join(names, ",")
		harness.Succeed(t, tool(t, subject), "snapshot", "restore", path,
			"--data-dir", member.Options.DataDir, "--name", member.Options.Name,
			"--initial-cluster", member.Options.InitialCluster,
			"--initial-cluster-token", "restored",
			"--initial-advertise-peer-urls", member.Options.PeerURL)
		if err := member.Spawn(); err != nil {
			t.Fatal(err)
		}
	}
	for _, member := range members {
		if err := member.WaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := harness.ContextFor(t, time.Minute)
	put, err := members[0].Client(t).Put(ctx, "after", "1")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[uint32]bool{}
	for _, member := range members {
		client := member.Client(t)
		if got, err := client.Get(ctx, "after"); err != nil || got.Count != 1 {
			t.Fatalf("%s: %v, %v", member.Options.Name, got, err)
		}
		hash, err := client.HashKV(ctx, member.Endpoint(), put.Header.Revision)
		if err != nil {
			t.Fatal(err)
		}
		hashes[hash.Hash] = true
		list, err := client.MemberList(ctx)
		if err != nil || len(list.Members) != 3 {
			t.Fatalf("%s: %v, %v", member.Options.Name, list, err)
		}
	}
	if len(hashes) != 1 {
		t.Errorf("members differ: %v", hashes)
	}
}

// A restore that bumps the revision leaves what etcd's leaves, so that watchers and caches of the
// old store notice that it went back.
func TestSnapshotBumpsTheRevision(t *testing.T) {
	subject, reference := harness.UnderTest(t), harness.Reference(t)
	source := harness.Start(t, reference, harness.Options{})
	furnish(t, source)
	before, err := source.Client(t).Get(harness.Context(t), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	path := save(t, source)
	var descriptions []string
	for _, program := range []harness.Program{reference, subject} {
		restored := restore(t, program, path, "--bump-revision", "1000000", "--mark-compacted")
		client := restored.Client(t)
		ctx := harness.Context(t)
		var out strings.Builder
		now, err := client.Get(ctx, "", clientv3.WithFromKey())
		fmt.Fprintf(&out, "now %s\n", harness.ShowGet(now, err))
		for _, revision := range []int64{before.Header.Revision, before.Header.Revision + 999_999,
			before.Header.Revision + 1_000_000, before.Header.Revision + 1_000_001} {
			got, err := client.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(revision))
			fmt.Fprintf(&out, "at %d: %s\n", revision, harness.ShowGet(got, err))
		}
		watch := harness.Hear(t, client.Watch(ctx, "k",
			clientv3.WithRev(before.Header.Revision)))
		fmt.Fprintf(&out, "watch: %s\n", harness.ShowWatch(watch))
		put, err := client.Put(ctx, "next", "1")
		fmt.Fprintf(&out, "put: %s\n", harness.ShowPut(put, err))
		hash, err := client.HashKV(ctx, restored.Endpoint(), 0)
		fmt.Fprintf(&out, "hash: %08x, compacted %d, %v\n", hash.Hash, hash.CompactRevision, err)
		out.WriteString(showLeases(t, client) + showPeople(t, client))
		descriptions = append(descriptions, out.String())
	}
	if descriptions[0] != descriptions[1] {
		t.Errorf("(- etcd, + subject)\n%s",
			harness.Difference(descriptions[0], descriptions[1]))
	}
	if !strings.Contains(descriptions[0], fmt.Sprintf("rev %d", before.Header.Revision+1_000_000)) {
		t.Errorf("etcd did not bump the revision:\n%s", descriptions[0])
	}
}

// The database file of a stopped etcd, which has no checksum, is restored when told not to look
// for one.
func TestSnapshotFromADataDirectory(t *testing.T) {
	source := harness.Start(t, harness.Reference(t), harness.Options{})
	compacted := furnish(t, source)
	if err := source.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(source.Options.DataDir, "member", "snap", "db")
	copied := filepath.Join(harness.TempDir(t), "copied.db")
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := source.Run(); err != nil {
		t.Fatal(err)
	}
	restored := restore(t, harness.UnderTest(t), copied, "--skip-hash-check")
	want, got := describe(t, source, compacted), describe(t, restored, compacted)
	if want != got {
		t.Errorf("(- before, + restored)\n%s", harness.Difference(want, got))
	}
}
