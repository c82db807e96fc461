// Package cluster judges clusters of three and five members as their users see them: killed,
// paused, cut off, replaced and damaged while clients write, read and watch. Each test has one kind
// of fault and says what it may cost; tests/chaos has all kinds by lot.
package cluster

import "os"

// long is a number for LONG=1, or the standard one.
func long(standard, long int) int {
	if os.Getenv("LONG") == "1" {
		return long
	}
	return standard
}
