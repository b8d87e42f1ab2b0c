{{- /*
A stage as a StatefulSet; takes {root, stage, s: the stage's values}. Not a Deployment, because a replica's ordinal is part
of its transactional id and of its place in the consumer group: a replica that is started again fences its own past, and no
two ever share an id.
*/ -}}
{{- define "twinlane.statefulset" -}}
{{- $values := .root.Values }}
{{- $name := include "twinlane.name" .root }}
{{- $gpu := and (eq .stage "precision") .s.gpu.enabled }}
{{- $device := ternary .s.gpu dict $gpu }}
{{- $image := ternary "router" (printf "%s-worker%s" .stage (ternary "-gpu" "" $gpu)) (eq .stage "router") }}
{{- $resources := deepCopy .s.resources }}
{{- if $gpu }}
{{- $_ := set $resources "limits" (set ($resources.limits | default dict) .s.gpu.resourceName 1) }}
{{- end }}
{{- $models := ternary dict .root.Values.models (eq .stage "router") }}
{{- $inline := not (empty $values.pipeline.inline) }}
{{- $pipeline := ternary "/pipeline/pipeline.yaml" $values.pipeline.path $inline }}
{{- $schemas := ternary "/schemas" $values.schemas.path (not (empty $values.schemas.files)) }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}-{{ .stage }}
  labels:
    {{- include "twinlane.metadataLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .stage }}
spec:
  serviceName: {{ $name }}
  {{- if not .s.autoscaling.enabled }}
  replicas: {{ .s.replicas }}
  {{- end }}
  # Replicas do not wait for each other: one that cannot start must not hold up the rest.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "twinlane.labels" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .stage }}
  template:
    metadata:
      labels:
        {{- include "twinlane.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .stage }}
        {{- with $values.pod.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Services read these files at the start, so other files mean other pods. (Models are watched.)
        checksum/config: {{ include (print .root.Template.BasePath "/configmaps.yaml") .root | sha256sum }}
        {{- with $values.pod.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      terminationGracePeriodSeconds: {{ $values.pod.terminationGracePeriodSeconds }}
      automountServiceAccountToken: false
      # A Service called twinlane-… would bring variables TWINLANE_…_PORT along, which are refused as unknown settings.
      enableServiceLinks: false
      {{- with $values.pod.serviceAccountName }}
      serviceAccountName: {{ . }}
      {{- end }}
      {{- with .s.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $device.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with merge (dict) .s.nodeSelector ($device.nodeSelector | default dict) }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with concat .s.tolerations ($device.tolerations | default list) }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .s.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.pod.topologySpread }}
      topologySpreadConstraints:
        {{- range . }}
        - {{- toYaml . | nindent 10 }}
          labelSelector:
            matchLabels:
              {{- include "twinlane.labels" $.root | nindent 14 }}
              app.kubernetes.io/component: {{ $.stage }}
        {{- end }}
      {{- end }}
      securityContext:
        {{- toYaml $values.pod.securityContext | nindent 8 }}
      {{- with $models.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .stage }}
          image: {{ $values.image.repository }}/{{ $image }}:{{ $values.image.tag | default .root.Chart.AppVersion }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: [--settings, /etc/twinlane/settings/settings.toml]
          env:
            - name: TWINLANE_PIPELINE
              value: {{ $pipeline | quote }}
            - name: TWINLANE_SCHEMAS
              value: {{ $schemas | quote }}
            # From the label, not from the host name: where it is missing, the service refuses to start instead of being 0.
            - name: TWINLANE_ORDINAL
              valueFrom:
                fieldRef:
                  fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
            - name: TWINLANE_KAFKA__BROKERS
              value: {{ $values.kafka.brokers | quote }}
            {{- with $values.registry }}
            {{- if .url }}
            - name: TWINLANE_REGISTRY__URL
              value: {{ .url | quote }}
            - name: TWINLANE_REGISTRY__WAIT_MS
              value: {{ .waitMs | int64 | quote }}
            {{- if .user }}
            - name: TWINLANE_REGISTRY__USER
              value: {{ .user | quote }}
            - name: TWINLANE_REGISTRY__PASSWORD_FILE
              value: /etc/twinlane/registry/password
            {{- end }}
            {{- if .ownAuthority }}
            - name: TWINLANE_REGISTRY__CA_FILE
              value: /etc/twinlane/registry/ca.crt
            {{- end }}
            {{- end }}
            {{- end }}
            - name: TWINLANE_CREATE_TOPICS
              value: {{ $values.settings.createTopics | quote }}
            - name: TWINLANE_TRANSACTIONAL_PREFIX
              value: {{ $values.settings.transactionalPrefix | quote }}
            - name: TWINLANE_ADMIN_HOST
              value: {{ $values.settings.adminHost | quote }}
            - name: TWINLANE_ADMIN_PORT
              value: "9464"
            - name: TWINLANE_LOG_FORMAT
              value: {{ $values.settings.logFormat | quote }}
            - name: TWINLANE_TIMINGS
              value: {{ $values.settings.timings | quote }}
            {{- with $values.settings.traces }}
            {{- if .otlp }}
            - name: TWINLANE_TRACES__OTLP
              value: {{ .otlp | quote }}
            - name: TWINLANE_TRACES__SAMPLE
              value: {{ .sample | quote }}
            {{- end }}
            {{- end }}
            {{- with $values.settings.maxModelMib }}
            - name: TWINLANE_MAX_MODEL_MIB
              value: {{ . | int64 | quote }}
            {{- end }}
            {{- with $device.sessionMib }}
            - name: TWINLANE_GPU_SESSION_MIB
              value: {{ . | int64 | quote }}
            {{- end }}
            - name: RUST_LOG
              value: {{ $values.settings.logFilter | quote }}
            {{- with $values.pod.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: admin
              containerPort: 9464
          # The port opens when the models are warm.
          startupProbe:
            httpGet: { path: /health/startup, port: admin }
            periodSeconds: 2
            failureThreshold: {{ div (max 60 (mul 4 (int64 .s.loadSeconds))) 2 }}
          readinessProbe:
            httpGet: { path: /health/ready, port: admin }
            periodSeconds: 5
            timeoutSeconds: 5
          # Models and Kafka clients that hang end the process by themselves; this is for what nobody thought of.
          livenessProbe:
            httpGet: { path: /health/live, port: admin }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          resources:
            {{- toYaml $resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
          volumeMounts:
            - { name: settings, mountPath: /etc/twinlane/settings, readOnly: true }
            # Whether a GPU runs a model is told by a profile, which is a temporary file.
            - { name: tmp, mountPath: /tmp }
            {{- if $inline }}
            - { name: pipeline, mountPath: /pipeline, readOnly: true }
            {{- end }}
            {{- if $models.volume }}
            - { name: models, mountPath: {{ dir $pipeline }}/{{ $models.path }}, readOnly: true }
            {{- end }}
            {{- if $values.schemas.files }}
            - { name: schemas, mountPath: {{ $schemas }}, readOnly: true }
            {{- end }}
            {{- if $values.registry.existingSecret }}
            - { name: registry, mountPath: /etc/twinlane/registry, readOnly: true }
            {{- end }}
            {{- if $values.kafka.tlsSecret }}
            - { name: kafka-tls, mountPath: /etc/twinlane/kafka-tls, readOnly: true }
            {{- end }}
      volumes:
        - name: settings
          {{- if $values.kafka.existingSecret }}
          secret:
            secretName: {{ $values.kafka.existingSecret }}
            items: [{ key: settings.toml, path: settings.toml }]
          {{- else }}
          configMap: { name: {{ $name }}-settings }
          {{- end }}
        - name: tmp
          emptyDir: { sizeLimit: 256Mi }
        {{- if $inline }}
        - name: pipeline
          configMap:
            name: {{ $name }}-pipeline
            items:
              - { key: pipeline.yaml, path: pipeline.yaml }
              {{- range $path, $_ := $values.pipeline.files }}
              - { key: {{ include "twinlane.key" $path }}, path: {{ $path | quote }} }
              {{- end }}
        {{- end }}
        {{- with $models.volume }}
        - name: models
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- if $values.schemas.files }}
        - name: schemas
          configMap: { name: {{ $name }}-schemas }
        {{- end }}
        {{- with $values.registry.existingSecret }}
        - name: registry
          secret: { secretName: {{ . }} }
        {{- end }}
        {{- with $values.kafka.tlsSecret }}
        - name: kafka-tls
          secret: { secretName: {{ . }} }
        {{- end }}
{{- end }}
