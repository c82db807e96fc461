package chaos

import (
	"os"
	"testing"
)

// The run that run.sh asks for.
func TestChaos(t *testing.T) {
	if os.Getenv("CHAOS_SECONDS") == "" {
		t.Skip("skipped: run.sh says for how long")
	}
	FromEnvironment(t).Do(t)
}
