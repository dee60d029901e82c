{{- define "keyvault-csi-sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "keyvault-csi-sync.fullname" -}}
{{- $name := include "keyvault-csi-sync.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "keyvault-csi-sync.serviceAccount" -}}
{{- if or .Values.serviceAccount.create .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name | default (include "keyvault-csi-sync.fullname" .) }}
{{- else }}
{{- fail "serviceAccount.name: name the service account, or let the chart create one (serviceAccount.create)" }}
{{- end }}
{{- end }}

{{- /* The labels by which the Deployment knows its pod: they can never change. */ -}}
{{- define "keyvault-csi-sync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keyvault-csi-sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The labels of all objects, but for those that the chart sets: a key that is there twice is no YAML. */ -}}
{{- define "keyvault-csi-sync.commonLabels" -}}
{{- with omit (.Values.commonLabels | default dict) "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component"
  "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* The nodes of the pods. */ -}}
{{- define "keyvault-csi-sync.nodeSelector" -}}
{{- merge (dict "kubernetes.io/os" "linux") (.Values.nodeSelector | default dict) | toYaml }}
{{- end }}

{{- define "keyvault-csi-sync.podLabels" -}}
{{- with include "keyvault-csi-sync.commonLabels" . }}
{{- . }}
{{ end -}}
{{ include "keyvault-csi-sync.selectorLabels" . }}
app.kubernetes.io/component: secrets
{{- end }}

{{- define "keyvault-csi-sync.labels" -}}
{{ include "keyvault-csi-sync.podLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* labelsWith of the root and more labels. One that is set replaces the chart's: a key that is there twice is no YAML. */ -}}
{{- define "keyvault-csi-sync.labelsWith" -}}
{{- mergeOverwrite (include "keyvault-csi-sync.labels" (index . 0) | fromYaml) (index . 1 | default dict) | toYaml }}
{{- end }}

{{- /* The registry of a repository is its first part, if that has a dot or a port, or is localhost. */ -}}
{{- define "keyvault-csi-sync.image" -}}
{{- $repository := .Values.image.repository }}
{{- with .Values.global.imageRegistry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* Those of the chart and of the charts around it, each once. The latter may be names alone. */ -}}
{{- define "keyvault-csi-sync.imagePullSecrets" -}}
{{- $names := list }}
{{- range concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) }}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) }}
{{- end }}
{{- range $names | uniq }}
- name: {{ . }}
{{- end }}
{{- end }}

{{- /* The annotations of an object, or nothing. Its argument is a list of the context, and of the annotations of this object alone, which win. */ -}}
{{- define "keyvault-csi-sync.annotations" -}}
{{- with merge dict (index . 1 | default dict) ((index . 0).Values.commonAnnotations | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The file of the ConfigMap. */ -}}
{{- define "keyvault-csi-sync.config" -}}
{{- if not .Values.secrets }}
{{- fail "secrets: name at least one Secret, such as --set secrets[0].name=db-login,secrets[0].data.password=db-password" }}
{{- end }}
{{- toYaml (dict "prune" .Values.prune "secrets" .Values.secrets) }}
{{- end }}

{{- /* No runAsUser: the image has one, and OpenShift allows only its own. */ -}}
{{- define "keyvault-csi-sync.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "keyvault-csi-sync.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
