package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvorum/interop/harness"
)

// Every script on a fresh server.
// parts says which scripts are about a part that a server may not have yet.
var parts = map[string]string{"auth.txt": "auth", "member.txt": "cluster"}

func TestScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%v, %d scripts", err, len(scripts))
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			if part, ok := parts[filepath.Base(path)]; ok {
				harness.NeedsPart(t, part)
			}
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			server := harness.Start(t, harness.UnderTest(t), harness.Options{})
			harness.CompareGolden(t, path, newRunner(t, server).run(string(script)))
		})
	}
}
