package rig

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Verdict is what tests/checker found, and how much it looked at.
type Verdict struct {
	Operations, Writes, Reads int
	// Unknown writes have no answer; so many of them Happened.
	Unknown, Happened          int
	Revisions, Events, Watches int
	// Violations are what no single store could have done.
	Violations []string `json:",omitempty"`
}

// Add adds another verdict's counts and violations.
func (v *Verdict) Add(other Verdict) {
	v.Operations += other.Operations
	v.Writes += other.Writes
	v.Reads += other.Reads
	v.Unknown += other.Unknown
	v.Happened += other.Happened
	v.Revisions += other.Revisions
	v.Events += other.Events
	v.Watches += other.Watches
	v.Violations = append(v.Violations, other.Violations...)
}

// counted is how the checker tells its counts.
const counted = "%d operations: %d writes and %d reads answered, %d writes without an answer of " +
	"which %d happened; %d revisions, %d events heard, %d watches;"

// Judge lets tests/checker judge a history.
func Judge(t testing.TB, history string) (v Verdict) {
	t.Helper()
	checker := os.Getenv("CHECKER_BIN")
	if checker == "" {
		t.Fatal("CHECKER_BIN is not set: the binary of tests/tests.rs judges histories; " +
			"tests/interop/run.sh builds it")
	}
	command := exec.Command(checker, "--ignored", "--exact", "checker::recorded", "--nocapture")
	command.Env = append(os.Environ(), "HISTORY="+history)
	text, err := command.CombinedOutput()
	judged := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if counts, ok := strings.CutPrefix(line, history+": "); ok {
			_, scanned := fmt.Sscanf(counts, counted, &v.Operations, &v.Writes, &v.Reads,
				&v.Unknown, &v.Happened, &v.Revisions, &v.Events, &v.Watches)
			judged = scanned == nil
			t.Log("checked: " + counts)
		}
		if strings.HasPrefix(line, "VIOLATION") {
			v.Violations = append(v.Violations, line)
		}
	}
	if !judged || (err == nil) != (len(v.Violations) == 0) {
		t.Errorf("the checker: %v\n%s", err, text)
	}
	return v
}
