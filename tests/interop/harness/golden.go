package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Transcript is what a test observed, line by line, compared at its end with the file recorded
// from real etcd: testdata/<test>.golden.
//
// UPDATE_GOLDENFILES=1 with SERVER_BIN=etcd records anew. Commit a difference only if you
// understand it and want it.
type Transcript struct {
	t     testing.TB
	lines []string
}

// Golden opens the transcript of this test.
func Golden(t testing.TB) *Transcript {
	t.Helper()
	transcript := &Transcript{t: t}
	t.Cleanup(transcript.finish)
	return transcript
}

// Line adds an observation; one that spans lines is indented under its first.
func (g *Transcript) Line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	g.lines = append(g.lines, strings.ReplaceAll(text, "\n", "\n    "))
}

// Section starts a group of lines.
func (g *Transcript) Section(title string) {
	if len(g.lines) > 0 {
		g.lines = append(g.lines, "")
	}
	g.lines = append(g.lines, "# "+title)
}

func (g *Transcript) finish() {
	name := strings.ReplaceAll(g.t.Name(), "/", "-") + ".golden"
	CompareGolden(g.t, filepath.Join("testdata", name), strings.Join(g.lines, "\n")+"\n")
}

// CompareGolden holds a text against the recorded file, or records it.
func CompareGolden(t testing.TB, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDENFILES") == "1" {
		if !UnderTest(t).Etcd {
			t.Fatal("goldens are recorded from etcd only: set SERVER_BIN to an etcd")
		}
		if t.Failed() {
			t.Fatalf("%s: not recorded, the test failed", path)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s (- etcd, + this server):\n%s", path, Difference(string(want), got))
	}
}

// Difference is a line diff by longest common subsequence; transcripts are short.
func Difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	section := ""
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			if strings.HasPrefix(a[i], "# ") {
				section = a[i]
			}
			i, j = i+1, j+1
			continue
		case section != "":
			fmt.Fprintf(&out, "  %s\n", section)
			section = ""
		}
		if j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1] {
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		} else {
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}
