package main

import (
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"slices"
)

// headerHeight is the height of the header of Prometheus' page.
const headerHeight = 108

// shrink writes a picture with its 256 most frequent colours, which needs a third of the bytes.
func shrink(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // G304: written by this program
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	whole, err := png.Decode(in)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	area := whole.Bounds()
	area.Min.Y += headerHeight
	area.Max.Y = lastRow(whole)
	small := image.NewPaletted(area, frequent(whole, area))
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			small.Set(x, y, whole.At(x, y))
		}
	}
	out, err := os.Create(to) //nolint:gosec // G304: the folder is an argument
	if err != nil {
		return err
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(out, small); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// frequent returns the most frequent colours of the area.
func frequent(whole image.Image, area image.Rectangle) color.Palette {
	count := map[color.Color]int{}
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			count[whole.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return cmp.Compare(count[b], count[a]) })
	return color.Palette(colours[:min(256, len(colours))])
}

// lastRow returns the row below the last row that is not white.
func lastRow(whole image.Image) int {
	area := whole.Bounds()
	white := color.RGBAModel.Convert(color.White)
	for y := area.Max.Y - 1; y > area.Min.Y; y-- {
		for x := area.Min.X; x < area.Max.X; x++ {
			if color.RGBAModel.Convert(whole.At(x, y)) != white {
				return min(y+16, area.Max.Y)
			}
		}
	}
	return area.Max.Y
}
