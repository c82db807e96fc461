package harness

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// NotBuilt says whether the server under test does not have a part of etcd yet: NOT_BUILT lists
// those parts (auth, cluster). What is left out is said in the log, so that a run shows it.
func NotBuilt(t *testing.T, part string) bool {
	t.Helper()
	missing := slices.Contains(strings.Split(os.Getenv("NOT_BUILT"), ","), part)
	if missing {
		t.Logf("not built: %s", part)
	}
	return missing
}

// NeedsPart skips a test that is about a part the server under test does not have yet.
func NeedsPart(t *testing.T, part string) {
	t.Helper()
	if NotBuilt(t, part) {
		t.Skipf("skipped: the server under test has no %s yet", part)
	}
}
