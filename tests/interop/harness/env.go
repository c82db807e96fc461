// Package harness runs the programs the suites need: the server under test, a real etcd to hold
// it against, and etcd's own tools.
//
// What is run comes from the environment, so that the same tests prove themselves with etcd in
// both places before they judge anything else:
//
//   - SERVER_BIN   the server under test (default: target/release/kvorum of this repository)
//   - SERVER_ARGS  further flags for it, separated by spaces
//   - ETCD_BIN, ETCDCTL_BIN, ETCDUTL_BIN  the reference (default: what build.sh made)
//   - ENGINE       kvorum's storage engine, added as --storage-engine
//
// A program that is missing fails the test: absence must never read as a pass.
package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Program is a binary and the family its command line belongs to.
type Program struct {
	Path string
	Args []string
	// Etcd says that this is etcd itself: without kvorum's own subcommands and flags, and with
	// etcd's habits where kvorum promises more.
	Etcd bool
}

// UnderTest is the server the suites judge.
func UnderTest(t testing.TB) Program {
	t.Helper()
	path := os.Getenv("SERVER_BIN")
	if path == "" {
		path = filepath.Join(Repository(t), "target", "release", "kvorum")
	}
	program := Program{Path: present(t, path), Args: strings.Fields(os.Getenv("SERVER_ARGS"))}
	program.Etcd = filepath.Base(path) == "etcd"
	if engine := os.Getenv("ENGINE"); engine != "" && !program.Etcd {
		program.Args = append(program.Args, "--storage-engine", engine)
	}
	return program
}

// Timed says whether this server is held to times: one that promises some, on a machine that is
// said to have nothing else to do (LONG=1, or LIMITS=1). Everywhere else times are only told.
func (p Program) Timed() bool {
	return !p.Etcd && (os.Getenv("LONG") == "1" || os.Getenv("LIMITS") == "1")
}

// Reference is the real etcd.
func Reference(t testing.TB) Program {
	t.Helper()
	return Program{Path: tool(t, "etcd"), Etcd: true}
}

func tool(t testing.TB, name string) string {
	t.Helper()
	if path := os.Getenv(strings.ToUpper(name) + "_BIN"); path != "" {
		return present(t, path)
	}
	return present(t, filepath.Join(Repository(t), "tests", "interop", ".cache", "bin", name))
}

func present(t testing.TB, path string) string {
	t.Helper()
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(absolute); err != nil {
		t.Fatalf("%v (tests/interop/build.sh builds etcd's programs, cargo builds kvorum)", err)
	}
	return absolute
}

// Repository is the folder that all of this is in, two above a go.mod. A relative path in the
// environment would be meant from there too, but go test runs every package in its own folder;
// run.sh therefore passes absolute ones.
func Repository(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return filepath.Dir(filepath.Dir(folder))
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Fatal("no go.mod above the test")
		}
		folder = parent
	}
}

// Int reads a number from the environment.
func Int(t testing.TB, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return number
}

// Seed is the seed of a random test: SEED if set, otherwise the clock. It is always logged.
func Seed(t testing.TB) int64 {
	t.Helper()
	seed := int64(Int(t, "SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("seed: SEED=%d", seed)
	return seed
}

// Eventually polls a condition until it holds; what it still lacks is the failure message.
func Eventually(t testing.TB, limit time.Duration, lacking func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		reason := lacking()
		if reason == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v still: %s", limit, reason)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
