package durability

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// On a full disk writes are refused with a reason, reads and deletes go on, nothing acknowledged
// is lost, and writes go on when there is room again. etcd stops instead, and of it only is asked
// that it lost nothing.
func TestDiskFull(t *testing.T) {
	program := harness.UnderTest(t)
	disk := harness.NewDisk(t, 512, "commit=5")
	server := harness.Start(t, program, harness.Options{
		DataDir: filepath.Join(disk.Path, "data")})
	l := newLoad(t, server, harness.Seed(t))
	l.runFor(500 * time.Millisecond)
	if err := l.verify(); err != nil {
		t.Fatal(err)
	}
	disk.Fill(4 << 20)
	l.valueSize = 100_000
	l.runFor(30 * time.Second)
	if len(l.failures) == 0 {
		t.Fatal("30 s of writing to a full disk, and none failed")
	}
	t.Logf("refused with: %v; still running: %v", l.failures[0], server.Running())
	if server.Running() {
		serveWhileFull(t, l)
	} else if !server.Program.Etcd {
		t.Error("the server stopped")
	}
	disk.Free()
	if !server.Running() {
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
	resume(t, l)
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	if err := l.verify(); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	l.report()
}

func (l *load) runFor(d time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	l.run(ctx)
}

// serveWhileFull asks for what needs no room, or next to none.
func serveWhileFull(t *testing.T, l *load) {
	t.Helper()
	reason := l.failures[0].Error()
	if !strings.Contains(reason, "space") && !l.server.Program.Etcd {
		t.Errorf("the refusal does not say why: %s", reason)
	}
	if err := l.verify(); err != nil {
		t.Fatalf("while full: %v", err)
	}
	kv := pb.NewKVClient(l.server.Conn(t))
	for _, w := range l.writers {
		if _, ok := w.existing(); ok && !w.remove(harness.Context(t), kv) {
			t.Errorf("delete while full: %v", l.failures[len(l.failures)-1])
			return
		}
	}
	if err := l.verify(); err != nil {
		t.Fatalf("while full, after deletes: %v", err)
	}
}

// resume makes sure that writes go on, after clearing the alarm if there is one.
func resume(t *testing.T, l *load) {
	t.Helper()
	client := l.server.Client(t)
	harness.Eventually(t, time.Minute, func() string {
		if _, err := client.AlarmDisarm(harness.Context(t), &clientv3.AlarmMember{}); err != nil {
			return err.Error()
		}
		kv := pb.NewKVClient(l.server.Conn(t))
		if !l.writers[0].put(harness.Context(t), kv) {
			return l.failures[len(l.failures)-1].Error()
		}
		return ""
	})
	if err := l.verify(); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	l.runFor(500 * time.Millisecond)
	if err := l.verify(); err != nil {
		t.Fatalf("going on: %v", err)
	}
}
