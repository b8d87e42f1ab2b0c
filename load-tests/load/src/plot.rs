//! Plots for the report, as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Lines over a common x axis.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

const SIZE: (u32, u32) = (900, 320);

impl Plot {
    /// The plot as an SVG element; nothing where there is nothing to show.
    pub(crate) fn svg(&self) -> Result<String> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let (Some(left), Some(right)) =
            (points().map(|p| p.0).reduce(f64::min), points().map(|p| p.0).reduce(f64::max))
        else {
            return Ok(String::new());
        };
        let top = points().map(|p| p.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.1;
        let mut svg = String::new();
        self.draw(&mut svg, left..right.max(left + f64::EPSILON), 0.0..top)
            .map_err(|error| anyhow!("drawing `{}`: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(
        &self,
        svg: &mut String,
        x: std::ops::Range<f64>,
        y: std::ops::Range<f64>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart.configure_mesh().x_desc(&self.x).y_desc(&self.y).draw()?;
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        if self.lines.len() > 1 {
            chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
        }
        root.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_its_title_and_a_line_for_each_series() {
        let lines = vec![("a".into(), vec![(0.0, 1.0), (1.0, 2.0)]), ("b".into(), vec![(0.5, 3.0)])];
        let plot = Plot { title: "lag".into(), x: "s".into(), y: "records".into(), lines };
        let svg = plot.svg().expect("drawn");
        assert!(svg.starts_with("<svg") && svg.contains("lag") && svg.contains("records"), "{svg}");
        assert_eq!(Plot::default().svg().expect("nothing to draw"), "");
    }
}
