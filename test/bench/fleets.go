package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
)

// fleetRow is a row of the table of `make fleet` about nodes with 100 objects, by the client or by a driver that polls.
var fleetRow = regexp.MustCompile(`(?m)^\| ([0-9,]+) × 100(, polling)? \|(.*)\|$`)

// fleets adds the plots of the table of `make fleet` in a Markdown file.
func (p *plots) fleets(file string) error {
	text, err := os.ReadFile(file) //nolint:gosec // G304: a file that the caller names
	if err != nil {
		return err
	}
	plots := []struct {
		*plot
		cell int
		also string // the name of another cell's line
		of   int
	}{
		{p.add("fleets-refused", "Requests that the vault refuses, after the first minute", "nodes with 100 objects", "%"), 3, "", 0},
		{p.add("fleets-mounted", "99 % of the volumes are mounted", "nodes with 100 objects", "s"), 5, "ideal", 7},
		{p.add("fleets-age", "Age of the oldest object of a volume, p99", "nodes with 100 objects", "s"), 9, "goal", 11},
	}
	for _, row := range fleetRow.FindAllStringSubmatch(string(text), -1) {
		nodes, err := strconv.ParseFloat(strings.ReplaceAll(row[1], ",", ""), 64)
		if err != nil {
			return err
		}
		name, cells := "driver", strings.Split(row[3], "|")
		if row[2] != "" {
			name = "polling"
		}
		for _, plot := range plots {
			point := func(name string, cell int) {
				value, _, _ := strings.Cut(strings.TrimSpace(cells[cell]), " ")
				if y, err := strconv.ParseFloat(value, 64); err == nil { // "never" is no point
					plot.value(name, nodes, y)
				}
			}
			point(name, plot.cell)
			if plot.also != "" && name == "driver" {
				point(plot.also, plot.of)
			}
		}
	}
	return nil
}
