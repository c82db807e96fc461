package harness

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Metric sums all series of a name that an endpoint shows.
func Metric(t testing.TB, endpoint, name string) float64 {
	t.Helper()
	response, err := http.Get(endpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if fields := strings.Fields(rest); ok && len(fields) > 0 {
			value, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
			sum += value
		}
	}
	return sum
}
