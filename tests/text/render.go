// Render Go templates over messages, one JSON request a line, as Ollama does.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string
	Content string
}

type request struct {
	Template string
	Messages []*message
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	results := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			panic(err)
		}
		var text strings.Builder
		parsed := template.Must(template.New("").Option("missingkey=zero").Parse(r.Template))
		if err := parsed.Execute(&text, map[string]any{"Messages": r.Messages}); err != nil {
			panic(err)
		}
		if err := results.Encode(text.String()); err != nil {
			panic(err)
		}
	}
}
