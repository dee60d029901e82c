package main

import (
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// blob is where links to files of the repository go that are not pages: branch or tag, then the path.
const blob = "https://github.com/keyvault-csi/keyvault-csi/blob/"

// page is what a check needs of an HTML file.
type page struct {
	ids   map[string]bool
	links []string // a href
	loads []string // what the browser fetches by itself: scripts, style sheets, pictures
}

// checkLinks returns the links below site that lead nowhere, and prints those that leave it.
func checkLinks(site, repository string) ([]string, error) {
	pages, err := readPages(site)
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%s has no pages: run make site", site)
	}
	var problems []string
	count, external := 0, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, link := range slices.Concat(pages[name].links, pages[name].loads) {
			count++
			if problem := checkLink(site, repository, pages, name, link, external); problem != "" {
				problems = append(problems, name+": "+link+": "+problem)
			}
		}
		for _, load := range pages[name].loads {
			if strings.Contains(load, "//") {
				problems = append(problems, name+": loads "+load+": the site must not load from other hosts")
			}
		}
	}
	for _, link := range slices.Sorted(maps.Keys(external)) {
		fmt.Println("external, not fetched:", link)
	}
	fmt.Printf("site: %d pages, %d links, %d different external ones, %d problems\n", len(pages), count, len(external), len(problems))
	return problems, nil
}

// checkLink returns what is wrong with a link of the page name. It adds a link that leaves the site to external.
func checkLink(site, repository string, pages map[string]page, name, link string, external map[string]bool) string {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.IsAbs() {
		if file, ok := strings.CutPrefix(link, blob+"main/"); ok {
			file, _, _ = strings.Cut(file, "#")
			if _, err := fs.Stat(os.DirFS(repository), file); err != nil {
				return "the repository has no such file"
			}
		} else if !strings.HasPrefix(link, blob) {
			external[link] = true
		}
		return ""
	}
	target := name
	if u.Path != "" {
		target = path.Join(path.Dir(name), u.Path)
	}
	if _, err := fs.Stat(os.DirFS(site), target); err != nil {
		return "no such file"
	}
	if u.Fragment == "" {
		return ""
	}
	if to, ok := pages[target]; !ok || !to.ids[u.Fragment] {
		return target + " has no such anchor"
	}
	return ""
}

// readPages reads all HTML files below site, by their paths in it.
func readPages(site string) (map[string]page, error) {
	pages := map[string]page{}
	root := os.DirFS(site)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".html" {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		tree, err := html.Parse(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pages[name] = readPage(tree)
		return nil
	})
	return pages, err
}

// readPage collects ids and links of a document.
func readPage(tree *html.Node) page {
	p := page{ids: map[string]bool{}}
	for node := range tree.Descendants() {
		for _, attribute := range node.Attr {
			switch {
			case attribute.Key == "id":
				p.ids[attribute.Val] = true
			case attribute.Key == "src", attribute.Key == "href" && node.Data == "link":
				p.loads = append(p.loads, attribute.Val)
			case attribute.Key == "href":
				p.links = append(p.links, attribute.Val)
			}
		}
	}
	return p
}
