// Command totals prints the table of what several runs have added to their TOTALS files.
package main

import (
	"fmt"
	"os"

	"kvorum/chaos"
)

func main() {
	var all []*chaos.Report
	for _, path := range os.Args[1:] {
		reports, err := chaos.Read(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		all = append(all, reports...)
	}
	sums := chaos.Sum(all)
	sums.Print(os.Stdout, nil)
}
