package snapshots

import (
	"bytes"
	"crypto/sha256"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// A file that is not a whole snapshot is refused with a message, not restored and not a crash.
func TestSnapshotRefused(t *testing.T) {
	program := harness.UnderTest(t)
	source := harness.Start(t, program, harness.Options{})
	furnish(t, source)
	good, err := os.ReadFile(save(t, source))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewSource(harness.Seed(t)))
	flipped := func(from, to int) []byte {
		bad := bytes.Clone(good)
		bad[from+random.Intn(to-from)] ^= 1 << random.Intn(8)
		return bad
	}
	sealed := func(body []byte) []byte {
		sum := sha256.Sum256(body)
		return append(bytes.Clone(body), sum[:]...)
	}
	noise := make([]byte, 64<<10)
	random.Read(noise)
	body := good[:len(good)-32]
	files := []struct {
		name string
		data []byte
		// sound: its checksum is right, or absent where it may be.
		sound bool
	}{
		{"empty", nil, false},
		{"only a checksum", good[len(good)-32:], false},
		{"half", good[:len(good)/2], false},
		{"one byte short", good[:len(good)-1], false},
		{"one byte long", append(bytes.Clone(good), 0), false},
		{"without a checksum", body, false},
		{"bit of the first page", flipped(0, 4096), false},
		{"bit of the body", flipped(4096, len(body)), false},
		{"bit of the checksum", flipped(len(body), len(good)), false},
		{"checksum of another", append(bytes.Clone(body), make([]byte, 32)...), false},
		{"text", []byte(strings.Repeat("not a database\n", 1000)), false},
		{"noise with its checksum", sealed(noise), true},
		{"zeros with their checksum", sealed(make([]byte, 64<<10)), true},
		{"first pages with their checksum", sealed(body[:16<<10]), true},
	}
	for _, file := range files {
		path := filepath.Join(harness.TempDir(t), "snapshot.db")
		if err := os.WriteFile(path, file.data, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, program, file.name, path, file.sound)
	}
}

// refused runs a restore that must fail. etcdutl panics on some files; kvorum must not.
func refused(t *testing.T, program harness.Program, name, path string, sound bool) {
	t.Helper()
	data := filepath.Join(filepath.Dir(path), "data")
	output := harness.Command(t, time.Minute, "", tool(t, program), "snapshot", "restore", path,
		"--data-dir", data)
	message := strings.TrimSpace(output.Stderr)
	if output.Code == 0 || message == "" {
		t.Errorf("%s: exit %d, %q", name, output.Code, message)
	}
	if crashed(output) && !(program.Etcd && sound) {
		t.Errorf("%s: crashed\n%s", name, message)
	}
	lines := strings.Split(message, "\n")
	t.Logf("%s: exit %d, %.150s", name, output.Code, lines[len(lines)-1])
	if _, err := os.Stat(filepath.Join(data, "member", "wal")); err == nil {
		t.Errorf("%s: left a data directory a server would start on", name)
	}
}

func crashed(output harness.Output) bool {
	for _, mark := range []string{"panic: ", "panicked at", "SIGSEGV", "unexpected fault address"} {
		if strings.Contains(output.Stderr, mark) {
			return true
		}
	}
	return output.Code < 0
}

// Flags that contradict each other or the state of the disk are refused before anything is made.
func TestSnapshotRestoreFlagsRefused(t *testing.T) {
	program := harness.UnderTest(t)
	source := harness.Start(t, program, harness.Options{})
	furnish(t, source)
	path := save(t, source)
	full := filepath.Join(harness.TempDir(t), "full")
	if err := os.MkdirAll(filepath.Join(full, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(harness.TempDir(t), "fresh")
	for name, args := range map[string][]string{
		"no file":             nil,
		"missing file":        {path + ".none"},
		"data directory":      {path, "--data-dir", full},
		"name not in cluster": {path, "--name", "stranger"},
		"other peer address":  {path, "--initial-advertise-peer-urls", "http://127.0.0.1:9"},
		"bump without mark":   {path, "--bump-revision", "5"},
		"mark without bump":   {path, "--mark-compacted"},
		"negative bump":       {path, "--bump-revision", "-1", "--mark-compacted"},
		"unknown flag":        {path, "--nonsense"},
		"unreadable cluster":  {path, "--initial-cluster", "="},
	} {
		if !slices.Contains(args, "--data-dir") {
			args = append(args, "--data-dir", fresh)
		}
		output := harness.Command(t, time.Minute, "", tool(t, program),
			append([]string{"snapshot", "restore"}, args...)...)
		message := strings.TrimSpace(output.Stderr)
		if output.Code == 0 || message == "" || crashed(output) {
			t.Errorf("%s: exit %d, %q", name, output.Code, message)
		}
		if _, err := os.Stat(filepath.Join(fresh, "member")); err == nil {
			t.Errorf("%s: left a data directory", name)
			_ = os.RemoveAll(fresh)
		}
	}
}
