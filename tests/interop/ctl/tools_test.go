package ctl

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// process is an etcdctl that runs until it is killed, its lines read one by one.
type process struct {
	t     *testing.T
	stdin io.WriteCloser
	lines chan string
}

func start(t *testing.T, server *harness.Server, args ...string) *process {
	t.Helper()
	command := exec.Command(harness.Etcdctl(t), args...)
	command.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+server.Endpoint())
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, stdin: stdin, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return p
}

func (p *process) write(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) expect(want ...string) {
	p.t.Helper()
	for _, line := range want {
		select {
		case got := <-p.lines:
			if got != line {
				p.t.Fatalf("%q, expected %q", got, line)
			}
		case <-time.After(harness.Patience):
			p.t.Fatalf("nothing, expected %q", line)
		}
	}
}

// The interactive watch puts several watches and progress requests on one stream.
func TestWatchInteractively(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(harness.Context(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, server, "watch", "-i")
	put("a", "1")
	p.write("watch a --rev=1")
	p.expect("PUT", "a", "1")
	p.write("watch b --prefix --prev-kv --rev=1")
	put("b/1", "2")
	p.expect("PUT", "b/1", "2")
	put("a", "3")
	p.expect("PUT", "a", "3")
	put("b/1", "4")
	p.expect("PUT", "b/1", "2", "b/1", "4")
	put("elsewhere", "5")
	p.write("progress")
	// One answer, heard by both watches.
	p.expect("progress notify: 6", "progress notify: 6")
}

// A mirror in either direction becomes and stays the same: what was there before, and puts,
// deletes and transactions since.
func TestMakeMirror(t *testing.T) {
	subject := harness.Start(t, harness.UnderTest(t), harness.Options{Name: "subject"})
	reference := harness.Start(t, harness.Reference(t), harness.Options{Name: "reference"})
	for _, one := range []struct {
		prefix   string
		from, to *harness.Server
	}{{"out/", subject, reference}, {"in/", reference, subject}} {
		mirror(t, one.prefix, one.from, one.to)
	}
}

func mirror(t *testing.T, prefix string, from, to *harness.Server) {
	source, destination := from.Client(t), to.Client(t)
	ctx := harness.ContextFor(t, time.Minute)
	write := func(op clientv3.Op) {
		t.Helper()
		if _, err := source.Do(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	// More than a page of make-mirror's first list.
	for begin := 0; begin < 1200; begin += 100 {
		var puts []clientv3.Op
		for i := begin; i < begin+100; i++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%04d", prefix, i), fmt.Sprint(i)))
		}
		write(clientv3.OpTxn(nil, puts, nil))
	}
	address := strings.TrimPrefix(to.Endpoint(), "http://")
	start(t, from, "make-mirror", "--prefix", prefix, "--dest-prefix", "mirrored/", address)
	same := func() string {
		here, err := source.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err.Error()
		}
		there, err := destination.Get(ctx, "mirrored/", clientv3.WithPrefix())
		if err != nil {
			return err.Error()
		}
		if len(here.Kvs) != len(there.Kvs) {
			return fmt.Sprintf("%d keys, %d in the mirror", len(here.Kvs), len(there.Kvs))
		}
		for i, kv := range here.Kvs {
			other := there.Kvs[i]
			if strings.TrimPrefix(string(kv.Key), prefix) !=
				strings.TrimPrefix(string(other.Key), "mirrored/") ||
				string(kv.Value) != string(other.Value) {
				return fmt.Sprintf("%s, in the mirror %s", harness.ShowKV(kv),
					harness.ShowKV(other))
			}
		}
		return ""
	}
	harness.Eventually(t, harness.Patience, same)
	for i := range 200 {
		key := fmt.Sprintf("%s%04d", prefix, i*7)
		switch i % 3 {
		case 0:
			write(clientv3.OpPut(key, "new"))
		case 1:
			write(clientv3.OpDelete(key))
		default:
			write(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key, "txn"),
				clientv3.OpDelete(fmt.Sprintf("%s%04d", prefix, i)),
				clientv3.OpPut(key+"/new", "")}, nil))
		}
	}
	write(clientv3.OpDelete(prefix+"09", clientv3.WithRange(prefix+"0a")))
	harness.Eventually(t, harness.Patience, same)
	if _, err := destination.Delete(ctx, "mirrored/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
}

// check perf takes a minute for each load. Whether the slowest of its requests was quick enough
// says as much about this machine as about the server, and is only shown.
func TestCheckPerf(t *testing.T) {
	t.Parallel()
	loads := []string{"s"}
	if os.Getenv("LONG") == "1" {
		loads = append(loads, "m")
	}
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	for _, load := range loads {
		output := harness.Command(t, 3*time.Minute, "", harness.Etcdctl(t), "--endpoints",
			server.Endpoint(), "check", "perf", "--load", load)
		if !strings.Contains(output.Stdout, "PASS: Throughput") {
			t.Errorf("load %s: exit %d\n%s%s", load, output.Code, output.Stdout, output.Stderr)
		}
		for _, line := range strings.Split(output.Stdout, "\n") {
			if strings.HasPrefix(line, "PASS") || strings.HasPrefix(line, "FAIL") {
				t.Logf("load %s: %s", load, line)
			}
		}
	}
	left, err := server.Client(t).Get(harness.Context(t), "", clientv3.WithFromKey())
	if err != nil || left.Count != 0 {
		t.Errorf("check perf left %d keys: %v", left.Count, err)
	}
}
