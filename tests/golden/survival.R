# Makes survival_cohort.csv (synthetic, with tied times) and survival_values.csv (name, value).
# Debian: r-base-core r-cran-survival r-cran-maxstat r-cran-riskregression. Run in this folder: Rscript survival.R
# Made with R 4.2.2, survival 3.5-3, maxstat 0.7-25, riskRegression 2022.11.28.
suppressMessages({library(survival); library(maxstat); library(riskRegression); library(prodlim); library(splines)})

set.seed(20250185)
n <- 160
age <- round(rnorm(n, 58, 10))
female <- rbinom(n, 1, 0.2)
child_b <- rbinom(n, 1, 0.25)
score <- round(rnorm(n), 3)
rival <- round(0.6 * score + 0.8 * rnorm(n), 3)
coarse <- as.integer(cut(score + rnorm(n) / 2, 4))
latent <- rexp(n, 0.05 * exp(0.8 * score + 0.02 * (age - 58) + 0.6 * child_b))
leaving <- pmin(rexp(n, 0.02), 48)
time <- round(pmin(latent, leaving), 0) + 0.5
event <- as.integer(latent <= leaving)
d <- data.frame(time, event, age, female, child_b, score, rival, coarse)
write.csv(d, "survival_cohort.csv", row.names = FALSE)
d <- read.csv("survival_cohort.csv")

out <- list()
put <- function(name, values) {
  values <- unlist(values)
  labels <- if (length(values) == 1) name else paste0(name, ".", seq_along(values))
  for (i in seq_along(values)) out[[labels[i]]] <<- values[[i]]
}

# Cox
vars <- c("score", "age", "female", "child_b")
options(warn = -1)
formula <- Surv(time, event) ~ score + age + female + child_b
for (ties in c("efron", "breslow")) {
  fit <- coxph(formula, d, ties = ties, control = coxph.control(eps = 1e-14, iter.max = 50))
  put(paste0("cox.", ties, ".coef"), coef(fit))
  put(paste0("cox.", ties, ".var"), as.vector(vcov(fit)))
  put(paste0("cox.", ties, ".loglik"), fit$loglik)
  new <- data.frame(score = c(0, 1.5), age = c(50, 70), female = c(0, 1), child_b = c(0, 1))
  curve <- survfit(fit, newdata = new, conf.type = "log-log")
  at <- summary(curve, times = c(3, 12, 24, 40))
  put(paste0("cox.", ties, ".surv"), as.vector(at$surv))
  put(paste0("cox.", ties, ".low"), as.vector(at$lower))
  put(paste0("cox.", ties, ".high"), as.vector(at$upper))
  put(paste0("cox.", ties, ".se"), as.vector(at$std.err / at$surv))
  for (transform in c("km", "identity", "log")) {
    zph <- cox.zph(fit, transform = transform)$table
    put(paste0("zph.", ties, ".", transform, ".chisq"), zph[, "chisq"])
    put(paste0("zph.", ties, ".", transform, ".p"), zph[, "p"])
  }
}
penalised <- coxph(Surv(time, event) ~ ridge(score, age, female, child_b, theta = 5, scale = TRUE), d,
                   control = coxph.control(eps = 1e-14, iter.max = 50, outer.max = 50))
put("cox.ridge.coef", coef(penalised))
put("cox.ridge.var", as.vector(penalised$var))
small <- coxph(Surv(time, event) ~ age + female, d)
large <- coxph(formula, d)
put("cox.lr.chisq", anova(small, large)$Chisq[2])
put("cox.lr.p", anova(small, large)[["Pr(>|Chi|)"]][2])

# Kaplan-Meier
km <- survfit(Surv(time, event) ~ 1, d, conf.type = "log-log")
at <- summary(km, times = c(3, 12, 24, 40))
put("km.surv", at$surv); put("km.low", at$lower); put("km.high", at$upper); put("km.risk", at$n.risk)
put("km.se", at$std.err / at$surv)
q <- quantile(km, c(0.25, 0.5))
put("km.quantile", q$quantile); put("km.quantile.low", q$lower); put("km.quantile.high", q$upper)
reverse <- survfit(Surv(time, 1 - event) ~ 1, d, conf.type = "log-log")
put("followup.median", quantile(reverse, 0.5)$quantile)
put("followup.low", quantile(reverse, 0.5)$lower)
two <- survdiff(Surv(time, event) ~ child_b, d)
put("logrank.two.chisq", two$chisq); put("logrank.two.exp", two$exp); put("logrank.two.obs", two$obs)
put("logrank.two.p", two$pvalue)
four <- survdiff(Surv(time, event) ~ coarse, d)
put("logrank.four.chisq", four$chisq); put("logrank.four.p", four$pvalue)

# Concordance
for (name in c("score", "rival", "coarse")) {
  c1 <- concordance(Surv(time, event) ~ d[[name]], d, reverse = TRUE)
  put(paste0("concordance.", name), c1$concordance)
  put(paste0("concordance.", name, ".count"), c1$count)
  put(paste0("uno.", name), concordance(Surv(time, event) ~ d[[name]], d, reverse = TRUE, timewt = "n/G2")$concordance)
  put(paste0("uno24.", name),
      concordance(Surv(time, event) ~ d[[name]], d, reverse = TRUE, timewt = "n/G2", ymax = 24)$concordance)
}
# Noether's standard error by its definition, all pairs in two loops (equal scores are half concordant, half discordant)
noether <- function(x) {
  ch <- dh <- numeric(n)
  for (i in 1:n) for (j in 1:n) {
    if (d$event[i] == 1 && (d$time[i] < d$time[j] || (d$time[i] == d$time[j] && d$event[j] == 0))) {
      win <- if (x[i] > x[j]) 1 else if (x[i] == x[j]) 0.5 else 0
      ch[i] <- ch[i] + win; ch[j] <- ch[j] + win
      dh[i] <- dh[i] + 1 - win; dh[j] <- dh[j] + 1 - win
    }
  }
  pc <- sum(ch) / (n * (n - 1)); pd <- sum(dh) / (n * (n - 1))
  three <- n * (n - 1) * (n - 2)
  v <- 4 / (pc + pd)^4 * (pd^2 * sum(ch * (ch - 1)) / three - 2 * pc * pd * sum(ch * dh) / three +
                            pc^2 * sum(dh * (dh - 1)) / three)
  list(c = pc / (pc + pd), se = sqrt(v / n))
}
one <- noether(d$score); two <- noether(d$rival)
put("noether.score", one$se); put("noether.rival", two$se); put("noether.coarse", noether(d$coarse)$se)
r <- cor(d$score, d$rival, method = "spearman")
t <- (one$c - two$c) / sqrt(one$se^2 + two$se^2 - 2 * r * one$se * two$se)
put("ttest.t", t); put("ttest.p", 2 * pt(abs(t), n - 1, lower.tail = FALSE))

# Time-dependent AUC and Brier score (inverse probability of censoring weights, marginal Kaplan-Meier)
horizons <- c(6, 12, 24)
auc <- Score(list(score = d$score, rival = d$rival, coarse = d$coarse), formula = Hist(time, event) ~ 1, data = d,
             times = horizons, metrics = "auc", cens.model = "km", conf.int = FALSE, null.model = FALSE)$AUC$score
put("auc.score", auc$AUC[auc$model == "score"]); put("auc.rival", auc$AUC[auc$model == "rival"])
put("auc.coarse", auc$AUC[auc$model == "coarse"])
risk <- sapply(horizons, function(t) 1 - exp(-0.05 * exp(0.8 * d$score) * t))
brier <- Score(list(model = risk), formula = Hist(time, event) ~ 1, data = d, times = horizons, metrics = "brier",
               cens.model = "km", conf.int = FALSE, null.model = TRUE)$Brier$score
put("brier.model", brier$Brier[brier$model == "model"])
put("brier.null", brier$Brier[brier$model == "Null model"])

# Maximally selected log-rank statistic
cut <- maxstat.test(Surv(time, event) ~ score, data = d, smethod = "LogRank", pmethod = "Lau92")
put("maxstat.cutoff", cut$estimate); put("maxstat.statistic", cut$statistic); put("maxstat.p", cut$p.value)
cut <- maxstat.test(Surv(time, event) ~ age, data = d, smethod = "LogRank", pmethod = "Lau92")
put("maxstat.age.cutoff", cut$estimate); put("maxstat.age.statistic", cut$statistic); put("maxstat.age.p", cut$p.value)

# Calibration at 12 months: slope, ICI (Cox on a natural cubic spline with Harrell's four knots), observed / expected
p <- risk[, 2]
cll <- log(-log(1 - p))
slope <- coxph(Surv(time, event) ~ cll, d, control = coxph.control(eps = 1e-14, iter.max = 50))
put("calibration.slope", coef(slope)); put("calibration.slope.ci", confint(slope))
knots <- quantile(cll, c(0.05, 0.35, 0.65, 0.95))
smooth <- coxph(Surv(time, event) ~ ns(cll, knots = knots[2:3], Boundary.knots = knots[c(1, 4)]), d,
                control = coxph.control(eps = 1e-14, iter.max = 50))
curve <- survfit(smooth, newdata = data.frame(cll = cll))
observed <- 1 - as.vector(summary(curve, times = 12)$surv)
put("calibration.ici", mean(abs(observed - p)))
put("calibration.e50", median(abs(observed - p))); put("calibration.e90", quantile(abs(observed - p), 0.9))
put("calibration.oe", (1 - summary(km, times = 12)$surv) / mean(p))

# Net benefit at 12 months (Vickers 2008)
benefit <- function(rows, threshold) {
  s <- summary(survfit(Surv(time, event) ~ 1, d[rows, ]), times = 12)$surv
  (1 - s) * mean(rows) - s * mean(rows) * threshold / (1 - threshold)
}
for (threshold in c(0.3, 0.5, 0.7)) {
  put(paste0("benefit.", threshold), c(benefit(p >= threshold, threshold), benefit(rep(TRUE, n), threshold)))
}

writeLines(c("name,value", paste0(names(out), ",", sapply(out, function(v) format(v, digits = 17)))), "survival_values.csv")
