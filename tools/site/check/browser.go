package main

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pageChecks is a function that returns the problems of the page in the browser: what is wider than the window, texts without contrast.
//
//go:embed browser.js
var pageChecks string

// searchCheck returns the number of hits for a word that every version has.
const searchCheck = `new Promise((resolve) => {
	const field = document.getElementById('search');
	field.value = 'rotation';
	field.dispatchEvent(new Event('input'));
	let tries = 0;
	const timer = setInterval(() => {
		const hits = document.querySelectorAll('#results a').length;
		if (hits > 0 || ++tries === 100) { clearInterval(timer); resolve(hits); }
	}, 50);
})`

// view is one way to look at a page.
type view struct {
	width, height int64
	scheme        string
}

var views = []view{{390, 844, "light"}, {390, 844, "dark"}, {1280, 900, "light"}, {1280, 900, "dark"}}

// checkBrowser opens every page of latest in chromium, as files, and returns what is wrong. It writes screenshots of the top of each page
// to the folder shots.
func checkBrowser(ctx context.Context, site, shots string) ([]string, error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, fmt.Errorf("there is no chromium on the PATH (apt-get install chromium): %w", err)
	}
	site, err = filepath.Abs(site)
	if err != nil {
		return nil, err
	}
	pages, err := readPages(site)
	if err != nil {
		return nil, err
	}
	// Chromium's own sandbox needs a user other than root; the pages are our own.
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program), chromedp.NoSandbox)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	defer stop()
	if shots != "" {
		if err := os.MkdirAll(shots, 0o750); err != nil { //nolint:gosec // G703: the folder that the caller names
			return nil, err
		}
	}
	b := browser{site: site, shots: shots}
	ctx, stopTab := chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	defer stopTab()
	if err := chromedp.Do(ctx); err != nil { // the tab ends with the first context that uses it
		return nil, err
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if !strings.HasPrefix(name, "latest/") {
			continue
		}
		for _, v := range views {
			found, err := b.look(ctx, name, v)
			if err != nil {
				return problems, fmt.Errorf("%s at %d px: %w", name, v.width, err)
			}
			for _, problem := range found {
				problems = append(problems, fmt.Sprintf("%s, %d px, %s: %s", name, v.width, v.scheme, problem))
			}
		}
	}
	fmt.Printf("site: each page in %d views, %d problems\n", len(views), len(problems))
	return problems, nil
}

// browser is a tab, and what its console said about the page that it shows.
type browser struct {
	site, shots string

	mu      sync.Mutex
	console []string
}

// listen collects errors of scripts and of loading.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.console = append(b.console, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.console = append(b.console, "console: "+string(e.Type))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.console = append(b.console, "console: "+e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// emulate makes the tab a window of the view, without movement.
func (v view) emulate() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
		if err != nil {
			return err
		}
		_, err = chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: v.width, Height: v.height, DeviceScaleFactor: 1, Mobile: v.width < 600,
		})
		if err != nil {
			return err
		}
		_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: v.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}

// look opens a page, checks it, and takes a screenshot.
func (b *browser) look(ctx context.Context, name string, v view) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	b.mu.Lock()
	b.console = nil
	b.mu.Unlock()
	err := chromedp.Do(ctx, v.emulate(), chromedp.Navigate("file://"+filepath.Join(b.site, filepath.FromSlash(name))))
	if err != nil {
		return nil, err
	}
	problems, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](pageChecks))
	if err != nil {
		return nil, err
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return nil, err
	}
	hits, err := chromedp.Run(ctx, chromedp.Evaluate[int](searchCheck, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, err
	}
	if hits == 0 {
		problems = append(problems, `the search finds nothing for "rotation"`)
	}
	b.mu.Lock()
	problems = append(problems, b.console...)
	b.mu.Unlock()
	if b.shots != "" {
		file := fmt.Sprintf("%s-%d-%s.png", strings.NewReplacer("/", "-", ".html", "").Replace(name), v.width, v.scheme)
		err = os.WriteFile(filepath.Join(b.shots, file), shot, 0o600) //nolint:gosec // G703: as above
	}
	return problems, err
}
