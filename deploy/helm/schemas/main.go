// Writes JSON schemas for kubeconform: schemas OUT FILE…, where a file is Kubernetes' swagger.json or the YAML of a
// CustomResourceDefinition. They are closed: a field that a schema does not know is refused, as an API server does it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

type schema = map[string]any

func main() {
	if len(os.Args) < 3 {
		fatal("usage: schemas OUT FILE…")
	}
	for _, file := range os.Args[2:] {
		text, err := os.ReadFile(file)
		check(err)
		var document schema
		check(yaml.Unmarshal(text, &document)) // JSON is YAML
		written := 0
		if definitions, ok := document["definitions"].(schema); ok {
			written = builtIn(os.Args[1], definitions)
		} else if document["kind"] == "CustomResourceDefinition" {
			written = custom(os.Args[1], document["spec"].(schema))
		}
		if written == 0 {
			fatal("no schema in %s", file)
		}
	}
}

// Each kind gets a file with its definition and all others, to which it refers.
func builtIn(out string, definitions schema) int {
	for name, definition := range definitions {
		switch name {
		case "io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity":
			// Told as strings; numbers are taken too.
			definitions[name] = schema{"type": []string{"string", "number"}}
		default:
			closeUp(definition)
		}
	}
	written := 0
	for name, definition := range definitions {
		kinds, _ := definition.(schema)["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // DeleteOptions and the like, which belong to every group
		}
		kind := kinds[0].(schema)
		write(out, kind["group"], kind["version"], kind["kind"],
			schema{"$ref": "#/definitions/" + name, "definitions": reachable(definitions, name)})
		written++
	}
	return written
}

func reachable(definitions schema, name string) schema {
	found, waiting := schema{}, []string{name}
	for len(waiting) > 0 {
		next := waiting[0]
		waiting = waiting[1:]
		if _, seen := found[next]; !seen {
			found[next] = definitions[next]
			waiting = append(waiting, references(definitions[next])...)
		}
	}
	return found
}

func references(node any) (names []string) {
	switch node := node.(type) {
	case schema:
		for key, value := range node {
			if target, ok := value.(string); ok && key == "$ref" {
				names = append(names, strings.TrimPrefix(target, "#/definitions/"))
			}
			names = append(names, references(value)...)
		}
	case []any:
		for _, value := range node {
			names = append(names, references(value)...)
		}
	}
	return names
}

func custom(out string, spec schema) int {
	versions := spec["versions"].([]any)
	for _, version := range versions {
		version := version.(schema)
		whole := version["schema"].(schema)["openAPIV3Schema"].(schema)
		closeUp(whole)
		write(out, spec["group"], version["name"], spec["names"].(schema)["kind"], whole)
	}
	return len(versions)
}

func closeUp(node any) {
	switch node := node.(type) {
	case schema:
		if node["x-kubernetes-int-or-string"] == true {
			node["type"] = []string{"string", "integer"}
			delete(node, "anyOf")
		}
		_, known := node["properties"].(schema)
		_, others := node["additionalProperties"]
		if known && !others && node["x-kubernetes-preserve-unknown-fields"] != true {
			node["additionalProperties"] = false
		}
		for _, value := range node {
			closeUp(value)
		}
	case []any:
		for _, value := range node {
			closeUp(value)
		}
	}
}

// Names as kubeconform's template has them: the group of `v1` is `v1`.
func write(out string, group, version, kind any, content schema) {
	if group == "" {
		group = version
	}
	text, err := json.Marshal(content)
	check(err)
	name := fmt.Sprintf("%s_%s_%s.json", group, strings.ToLower(kind.(string)), version)
	check(os.WriteFile(filepath.Join(out, name), text, 0o644))
}

func check(err error) {
	if err != nil {
		fatal("%v", err)
	}
}

func fatal(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "schemas: "+format+"\n", values...)
	os.Exit(1)
}
