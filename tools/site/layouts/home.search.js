{{- /* One entry for each section of each page: {page, title, anchor, heading, text}. */ -}}
{{- $entries := slice -}}
{{- range site.Pages -}}
	{{- if .File -}}
		{{- $meta := partial "meta.html" . -}}
		{{- $url := partial "path.html" . -}}
		{{- range split (replaceRE `<h[1-4] id="` "\u0001" .Content) "\u0001" -}}
			{{- with findRESubmatch `(?s)^([^"]*)">(.*?)</h[1-4]>(.*)$` . 1 -}}
				{{- $match := index . 0 -}}
				{{- $heading := replaceRE `(?s)\s*<a class="anchor".*$` "" (index $match 2) | plainify | htmlUnescape -}}
				{{- $text := replaceRE `\s+` " " (index $match 3 | plainify | htmlUnescape) -}}
				{{- $entries = $entries | append (dict "page" $url "title" $meta.title "anchor" (index $match 1) "heading" $heading "text" $text) -}}
			{{- end -}}
		{{- end -}}
	{{- end -}}
{{- end -}}
window.searchIndex = {{ $entries | jsonify }};
