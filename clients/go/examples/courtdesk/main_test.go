package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	recognition "recognition.example/client"
)

func TestTheDeskOpensClosesAndLeavesOpen(t *testing.T) {
	control := os.Getenv("MRG_STAGE")
	if control == "" {
		t.Skip("MRG_STAGE is not set: run pytest tests/clients/test_go.py in the repository")
	}
	ask := func(path string, body, answer any) {
		t.Helper()
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Post(control+path, "application/json", bytes.NewReader(encoded))
		if body == nil {
			response, err = http.Get(control + path)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			t.Fatal(err)
		}
	}
	var profiles, matters map[string]string
	ask("/profiles", nil, &profiles)
	ask("/matters", nil, &matters)

	profile, err := recognition.ReadProfile(profiles["court"])
	if err != nil {
		t.Fatal(err)
	}
	client, err := recognition.Dial(profile)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	challenge, err := client.Challenge(t.Context(), matters["court"])
	if err != nil {
		t.Fatal(err)
	}
	var made map[string][]string
	ask("/assertions", map[string]any{"audience": challenge.Audience, "count": 2}, &made)
	first, second := made["assertions"][0], made["assertions"][1]

	file := func(language recognition.Language, filings string) (int, string) {
		t.Helper()
		var out bytes.Buffer
		code, err := run(t.Context(), profiles["court"], desk{matter: matters["court"], language: language},
			strings.NewReader(filings), &out)
		if err != nil {
			t.Fatal(err)
		}
		return code, out.String()
	}
	if code, said := file("zh", "case-1 "+first+"\ncase-2 "+second+"\n"); code != 0 || strings.Count(said, "FILED") != 2 {
		t.Errorf("%d: %s", code, said)
	}
	code, said := file("zh", "case-3 "+first+"\n")
	if code != 1 || !strings.HasPrefix(said, "case-3: CLOSED REPLAYED ") ||
		!strings.Contains(said, recognition.ReasonReplayed.Text("zh").What) {
		t.Errorf("%d: %s", code, said)
	}
	// Who files the same case once more, with an assertion that was good before, is not answered as before.
	code, said = file("en", "case-1 "+first+"\n")
	if code != 1 || !strings.HasPrefix(said, "case-1: CLOSED REPLAYED ") {
		t.Errorf("%d: %s", code, said)
	}
	if code, said := file("en", "case-4\n"); code != 3 || !strings.Contains(said, "OPEN Call") {
		t.Errorf("%d: %s", code, said)
	}
}

func TestAFilingStaysOpenWhereTheGatewayIsNotThere(t *testing.T) {
	var out bytes.Buffer
	if code, err := run(context.Background(), "missing.toml", desk{}, strings.NewReader(""), &out); code != 2 || err == nil {
		t.Errorf("got %d, %v", code, err)
	}
}
